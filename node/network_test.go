package node_test

import (
	"context"
	"fmt"
	"strings"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
	"dems/node"
)

// TestALeaderCutOffByADrill cuts the leader off from the other nodes, in each direction, and not from front ends: another one
// leads, and when the network has healed by itself all are as one again.
func TestALeaderCutOffByADrill(t *testing.T) {
	for _, direction := range []dems.Direction{dems.BothWays, dems.Incoming, dems.Outgoing} {
		t.Run(direction.String(), func(t *testing.T) {
			t.Parallel()
			c, leader, _ := startDrill(t)
			var peers []string
			for _, id := range others(c, leader) {
				peers = append(peers, string(id))
			}
			// Until somebody else leads, and a while longer: elections take a second at most.
			inject(t, c, leader, dems.Fault{Kind: dems.Partition, Peers: peers, Direction: direction, Lasts: 5 * time.Second})
			c.Eventually("the others follow another leader", func(context.Context) error {
				for _, id := range others(c, leader) {
					if status := c.Status(id); status.Leader == leader || status.Leader == "" {
						return fmt.Errorf("%s follows %q", id, status.Leader)
					}
				}
				return nil
			})
			reply := c.Propose(batch(2, book("MTL", 1)))
			if result := outcome(t, reply); result.Outcome != dems.Booked || reply.Vote.Node == leader {
				t.Errorf("%+v by %s", result, reply.Vote.Node)
			}
			c.WaitApplied(leader, reply.Vote.Index)
			c.WaitEqual()
		})
	}
}

// TestASlowNetwork: everything goes on, late.
func TestASlowNetwork(t *testing.T) {
	t.Parallel()
	c, leader, follower := startDrill(t)
	const delay = 30 * time.Millisecond
	inject(t, c, leader, dems.Fault{Kind: dems.Latency, Delay: delay, Jitter: delay})
	c.Eventually("the network is slow", func(ctx context.Context) error {
		begin := time.Now()
		if _, err := c.Replica(leader).Status(ctx); err != nil {
			return err
		}
		if took := time.Since(begin); took < 2*delay {
			return fmt.Errorf("an answer within %v", took)
		}
		return nil
	})
	for number := 2; number < 6; number++ {
		begin := time.Now()
		reply := c.Propose(batch(number, book("MTL", number)))
		took, late := time.Since(begin), reply.Vote.Node == leader // on a starved machine another one may lead by now
		if late && took < 2*delay || outcome(t, reply).Outcome != dems.Booked {
			t.Errorf("%+v after %v", reply, took)
		}
		c.WaitApplied(follower, reply.Vote.Index)
	}
	inject(t, c, leader, dems.Fault{}) // however slow, it can be told
	c.WaitEqual()
}

func TestPeersOfAFaultAreChecked(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Nodes: 2, Change: func(config *node.Config) { config.EnableFaults = true }})
	for peer, want := range map[string]string{"n1": "the node itself", "n3": "no node n3"} {
		err := c.Replica("n1").Inject(t.Context(), dems.Fault{Kind: dems.Partition, Lasts: time.Second, Peers: []string{peer}})
		if kind(t, err) != dems.BadRequest || !strings.Contains(err.Error(), want) {
			t.Errorf("%s: %v", peer, err)
		}
	}
	inject(t, c, "n1", dems.Fault{Kind: dems.Partition, Lasts: time.Millisecond, Peers: []string{"n2", dems.FrontEnds}})
}

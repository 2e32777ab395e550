package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
	"dems/node"
)

// never is an interval at which nothing happens while a test runs.
const never = time.Hour

// votesOf reads the votes of some nodes, of all sessions, until there is an index at which all have voted and the last votes
// of two are for different states. It returns that index.
func votesOf(t *testing.T, c *cluster.Cluster, ids ...dems.NodeID) uint64 {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	var mu sync.Mutex
	var group sync.WaitGroup
	votes := make(map[uint64]map[dems.NodeID]dems.Digest)
	found := uint64(0)
	for _, id := range ids {
		group.Go(func() {
			_ = c.Replica(id).Votes(ctx, 0, func(got []dems.Vote) error {
				mu.Lock()
				defer mu.Unlock()
				for _, vote := range got {
					if votes[vote.Index] == nil {
						votes[vote.Index] = make(map[dems.NodeID]dems.Digest)
					}
					votes[vote.Index][vote.Node] = vote.State
					states := make(map[dems.Digest]bool)
					for _, state := range votes[vote.Index] {
						states[state] = true
					}
					if len(votes[vote.Index]) == len(ids) && len(states) > 1 {
						found = vote.Index
						cancel()
					}
				}
				return nil
			})
		})
	}
	group.Wait()
	return found
}

// TestMemoryThatChangedIsFoundWithoutClients has nothing ordered after the damage.
func TestMemoryThatChangedIsFoundWithoutClients(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Change: func(config *node.Config) { config.AuditInterval = 20 * time.Millisecond }})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 100)))
	c.WaitEqual()
	damaged := without(c, c.WaitLeader())[0]
	c.Node(damaged).Damage()
	if index := votesOf(t, c, c.IDs()...); index == 0 {
		t.Error("nobody votes for another state")
	}
}

// TestMemoryThatChangedIsReplaced goes the whole way, with the leader: found, convicted, replaced.
func TestMemoryThatChangedIsReplaced(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Change: func(config *node.Config) { config.AuditInterval = 20 * time.Millisecond }})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 100)))
	damaged := c.WaitLeader()
	c.Node(damaged).Damage()
	waitBack(t, c, damaged, 2)
	c.WaitEqual()
}

// TestVotersConfirmStates asks about states that all had, that nobody had, and that nobody knows.
func TestVotersConfirmStates(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Change: func(config *node.Config) { config.AuditInterval = never }})
	c.OpenSession(session)
	reply := c.Propose(batch(1, addEvent("MTL", 100)))
	c.WaitEqual()
	const patience, moment = 20 * time.Second, 300 * time.Millisecond // where somebody can tell, and where nobody can
	asking := c.Node("n1")
	index, wrong := reply.Vote.Index, dems.Digest{1, 2, 3}
	right, err := asking.StateAt(t.Context(), index)
	if err != nil || reply.Vote.State != right {
		t.Fatalf("%v %v, voted %v", right, err, reply.Vote.State)
	}
	for _, id := range c.IDs() {
		if got, err := c.Replica(id).StateAt(t.Context(), index); err != nil || got != right {
			t.Errorf("%s: %v %v", id, got, err)
		}
	}
	if err := asking.Confirm(t.Context(), patience, index, right); err != nil {
		t.Error(err)
	}
	want := fmt.Sprintf("the state at index %d has digest %s, but 2 of 3 voters had %s", index, wrong, right)
	if err := asking.Confirm(t.Context(), patience, index, wrong); err == nil || err.Error() != want {
		t.Errorf("%v, want %s", err, want)
	}
	if err := asking.Confirm(t.Context(), moment, index+1000, wrong); err != nil {
		t.Errorf("an index that nobody knows: %v", err)
	}
	if err := asking.ConfirmOwn(t.Context(), moment, index+1000, wrong); err == nil || !strings.Contains(err.Error(), "0 of 3 voters confirm it, 2 are needed") {
		t.Errorf("an own state that nobody knows: %v", err)
	}
	c.KillNode("n2")
	if err := asking.Confirm(t.Context(), moment, index, wrong); err != nil {
		t.Errorf("one of three contradicts, which is no majority: %v", err)
	}
	if err := asking.ConfirmOwn(t.Context(), patience, index, right); err != nil {
		t.Errorf("an own state that two of three have: %v", err)
	}
	if err := asking.ConfirmOwn(t.Context(), moment, index, wrong); err == nil {
		t.Error("an own state that nobody else has was confirmed")
	}
	if err := asking.Confirm(t.Context(), patience, index, right); err != nil {
		t.Error(err)
	}
	asking.Kill()
	if err := asking.Err(); !errors.Is(err, node.ErrKilled) {
		t.Fatal(err)
	}
	if err := asking.Confirm(t.Context(), patience, index, wrong); err == nil || !strings.Contains(err.Error(), "stopping") {
		t.Errorf("while it stops: %v", err)
	}
}

// TestWrongNodeTakesNoSnapshot has a node with a wrong state, which its own digest does not show, take a snapshot.
func TestWrongNodeTakesNoSnapshot(t *testing.T) {
	t.Parallel()
	removal := make(chan struct{}) // which has to wait: something else may be ordered meanwhile, and tell its peers
	c := cluster.Start(t, cluster.Config{Change: func(config *node.Config) {
		config.AuditInterval, config.EnableFaults = never, true
		config.Failpoint = func(step string) {
			if step == "remove" {
				<-removal
			}
		}
	}})
	t.Cleanup(func() { close(removal) })
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 100)))
	c.WaitEqual()
	wrong := without(c, c.WaitLeader())
	accused := c.Node(wrong[0])
	inject(t, c, wrong[0], dems.Fault{Kind: dems.WrongState})
	err := accused.Raft().Snapshot().Error()
	if err == nil || !strings.Contains(err.Error(), "but 2 of 3 voters had") {
		t.Errorf("the wrong node: %v", err)
	}
	if err := c.Node(wrong[1]).Raft().Snapshot().Error(); err != nil {
		t.Errorf("a right node: %v", err)
	}
	if list, err := os.ReadDir(filepath.Join(c.Dir(wrong[0]), "snapshots")); err != nil || len(list) != 0 {
		t.Errorf("%d snapshots are left, %v", len(list), err)
	}
	if got := c.Status(wrong[0]); !got.Ready {
		t.Errorf("it does not go on: %+v", got)
	}
}

package node_test

import (
	"bytes"
	"context"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
	"dems/transport"
)

// TestEntriesAreForwarded has every node asked to have entries ordered, which only one of them can do itself.
func TestEntriesAreForwarded(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	for number, id := range c.IDs() {
		opened := uint64(100 + number)
		var reply dems.BatchReply
		c.Eventually("a session is opened by way of "+string(id), func(ctx context.Context) (err error) {
			reply, err = c.Replica(id).Forward(ctx, cluster.Registration("fe1", opened))
			return err
		})
		if reply.Vote.Node != id || reply.Vote.Session != opened || reply.Vote.Batch != 0 || reply.Vote.Index == 0 {
			t.Errorf("the session opened by way of %s: %+v", id, reply.Vote)
		}
	}
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 2)))
	entry := batch(2, book("MTL", 1), book("MTL", 2), book("MTL", 3))
	first := c.Propose(entry)
	var index uint64
	for _, id := range c.IDs() { // what is ordered already is answered again, by each with what it got itself
		reply, err := c.Replica(id).Forward(t.Context(), entry)
		if err != nil || reply.Vote.Node != id || reply.Vote.Index <= index || !bytes.Equal(reply.Results, first.Results) {
			t.Errorf("%s: %+v after index %d, %v", id, reply, index, err)
		}
		index = reply.Vote.Index
	}
	c.WaitEqual()
	if result := read(t, c, "n1", index, availability()); len(result.Events) != 1 || result.Events[0].Booked != 2 {
		t.Errorf("%+v", result.Events)
	}
}

// TestForwardIsRefused asks for what may not be ordered, and where there is nobody to order it.
func TestForwardIsRefused(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 100)))
	verdict := dems.AppendEntry(nil, &dems.Entry{Kind: dems.VerdictEntry, Verdict: dems.Verdict{By: "n1", Node: "n2", Time: time.UnixMilli(1)}})
	for _, id := range c.IDs() {
		for name, entry := range map[string][]byte{
			"nonsense": []byte("nonsense"), "a verdict": verdict, "another front end": cluster.Registration("fe2", 9),
			"half an entry": batch(2, book("MTL", 1))[:20],
		} {
			if _, err := c.Replica(id).Forward(t.Context(), entry); kind(t, err) != dems.BadRequest {
				t.Errorf("%s by way of %s: %v", name, id, err)
			}
		}
	}
	c.Propose(batch(2, book("MTL", 2))) // after whatever was ordered
	if known, err := registry(t.Context(), c, c.WaitLeader()); err != nil || len(known.FrontEnds) != 1 {
		t.Errorf("%+v, %v", known.FrontEnds, err)
	}
	leader := c.WaitLeader()
	alone := others(c, leader)
	for _, id := range []dems.NodeID{leader, alone[0]} {
		c.KillNode(id)
	}
	c.Eventually("nobody leads", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, 2*time.Second)
		defer cancel()
		_, err := c.Replica(alone[1]).Forward(ctx, batch(3, book("MTL", 2)))
		switch kind(t, err) {
		case dems.NotLeader:
			return nil
		case dems.NotApplied, dems.UnknownOutcome: // the leader that it still believes in is gone, or it is that itself for a moment
			return err
		}
		t.Fatal(err)
		return nil
	})
}

// TestForwardWhileLeadersChange proposes batches by way of nodes that follow, while who leads is killed again and again: a batch that
// is proposed until it is answered has its effect once.
func TestForwardWhileLeadersChange(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 1000)))
	number := 1
	for round := range 3 {
		leader := c.WaitLeader()
		ways := others(c, leader)
		var group sync.WaitGroup
		first := number + 1
		for range dems.MaxBatchesInFlight {
			number++
			entry, way := batch(number, book("MTL", number)), ways[number%2]
			group.Go(func() { _, _ = c.Replica(way).Forward(t.Context(), entry) })
		}
		c.KillNode(leader)
		group.Wait()
		for ; first <= number; first++ {
			entry := batch(first, book("MTL", first))
			c.Eventually(fmt.Sprintf("batch %d by way of %s", first, ways[round%2]), func(ctx context.Context) error {
				reply, err := c.Replica(ways[round%2]).Forward(ctx, entry)
				if err == nil && outcome(t, reply).Outcome != dems.Booked {
					t.Fatalf("batch %d: %+v", first, outcome(t, reply))
				}
				return err
			})
		}
		c.StartNode(leader)
		c.WaitReady(leader)
	}
	c.WaitEqual()
	if result := read(t, c, "n2", 0, availability()); len(result.Events) != 1 || result.Events[0].Booked != uint32(number-1) {
		t.Errorf("%+v, want %d bookings", result.Events, number-1)
	}
}

// TestForwardThatComesToNothing: by way of a mute node, or of one that has ended, nothing is ordered.
func TestForwardThatComesToNothing(t *testing.T) {
	t.Parallel()
	c, leader, follower := startDrill(t)
	inject(t, c, follower, dems.Fault{Kind: dems.Mute})
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if _, err := c.Replica(follower).Forward(ctx, batch(2, book("MTL", 1))); err == nil || ctx.Err() == nil {
		t.Errorf("a mute node answers: %v", err)
	}
	inject(t, c, follower, dems.Fault{})
	c.StopNode(follower)
	if _, err := c.Replica(follower).Forward(t.Context(), batch(2, book("MTL", 1))); err == nil {
		t.Error("a node that has ended answers")
	}
	index := c.Propose(batch(3, book("MTL", 2))).Vote.Index
	if result := read(t, c, leader, index, availability()); result.Events[0].Booked != 1 {
		t.Errorf("%+v", result.Events)
	}
}

// TestNodesWithoutAVoteHandNothingOn asks the leader as nodes do, one of which is no member.
func TestNodesWithoutAVoteHandNothingOn(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{})
	c.OpenSession(session)
	voter := others(c, c.WaitLeader())[0]
	c.StopNode(voter) // its name and its place are taken below
	entry := batch(1, addEvent("MTL", 2))
	for name, want := range map[string]string{"n4": "no vote", string(voter): ""} {
		endpoint := c.Endpoint(transport.RoleNode, name)
		c.Eventually(name+" asks for it", func(ctx context.Context) error {
			_, err := endpoint.Replica(c.Address(c.WaitLeader())).Forward(ctx, entry)
			if want != "" && err == nil {
				t.Fatalf("what %s hands on is ordered", name)
			}
			if want != "" && kind(t, err) == dems.BadRequest && strings.Contains(err.Error(), want) {
				return nil
			}
			return err
		})
		_, err := endpoint.Replica(c.Address(c.WaitLeader())).Propose(t.Context(), entry)
		if got := kind(t, err); got != dems.BadRequest && got != dems.NotLeader {
			t.Errorf("%s proposes: %v", name, err)
		}
		if err := endpoint.Close(); err != nil {
			t.Error(err)
		}
	}
}

package node_test

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"
	"testing"

	"dems"
	"dems/internal/cluster"
	"dems/node"
)

// drill starts a cluster whose nodes may be made to misbehave, with a session and an event.
func drill(t *testing.T, nodes int) *cluster.Cluster {
	c := cluster.Start(t, cluster.Config{Nodes: nodes, Change: func(config *node.Config) { config.EnableFaults = true }})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 1000)))
	return c
}

// inject makes a node misbehave. On a starved machine connections break, and the node may not be told at the first attempt.
func inject(t *testing.T, c *cluster.Cluster, id dems.NodeID, fault dems.Fault) {
	t.Helper()
	c.Eventually(fmt.Sprintf("%s is told of %+v", id, fault), func(ctx context.Context) error {
		err := c.Replica(id).Inject(ctx, fault)
		if err != nil && kind(t, err) != dems.NotApplied {
			t.Fatal(err)
		}
		return err
	})
}

// standingOf returns where the leader sees a node.
func standingOf(ctx context.Context, c *cluster.Cluster, of, at dems.NodeID) (dems.Standing, error) {
	status, err := c.Replica(at).Status(ctx)
	if err != nil {
		return dems.Standing{}, err
	}
	for _, s := range status.Standings {
		if s.Node == of {
			return s, nil
		}
	}
	return dems.Standing{}, fmt.Errorf("%s does not know %s", at, of)
}

// waitBack waits until a node is a voter again, as an incarnation.
func waitBack(t *testing.T, c *cluster.Cluster, id dems.NodeID, incarnation uint64) {
	t.Helper()
	c.Eventually(fmt.Sprintf("%s is back as incarnation %d", id, incarnation), func(ctx context.Context) error {
		for _, at := range c.IDs() {
			s, err := standingOf(ctx, c, id, at)
			if err != nil {
				return err
			}
			if s.Condition != dems.Correct || s.Incarnation != incarnation {
				return fmt.Errorf("%s says %+v", at, s)
			}
		}
		return nil
	})
}

// incidents returns the incidents about a node, in order, as a node knows them.
func incidents(c *cluster.Cluster, of, at dems.NodeID) []dems.Incident {
	var all []dems.Incident
	c.Eventually(fmt.Sprintf("%s tells incidents", at), func(ctx context.Context) error {
		reply, err := c.Replica(at).Query(ctx, dems.QueryBatch{Queries: []dems.Query{{Kind: dems.IncidentsQuery}}})
		if err != nil {
			return err
		}
		all, err = dems.DecodeIncidents(reply.Answers[0].Result)
		return err
	})
	var about []dems.Incident
	for _, incident := range all {
		if incident.Node == of {
			about = append(about, incident)
		}
	}
	return about
}

// TestWrongStateIsReplaced alters the state of one node, a follower or the leader, with no front end anywhere.
func TestWrongStateIsReplaced(t *testing.T) {
	for _, who := range []string{"follower", "leader"} {
		t.Run(who, func(t *testing.T) {
			t.Parallel()
			c := drill(t, 3)
			leader := c.WaitLeader()
			accused := leader
			if who == "follower" {
				accused = without(c, leader)[0]
			}
			inject(t, c, accused, dems.Fault{Kind: dems.WrongState})
			c.Propose(batch(2, book("MTL", 1)))
			waitBack(t, c, accused, 2)
			c.Propose(batch(3, book("MTL", 2)))
			c.WaitEqual()
			kinds := ""
			for _, incident := range incidents(c, accused, without(c, accused)[0]) {
				if incident.Kind != dems.LeaderChangeIncident {
					kinds += incident.Kind.String() + " "
				}
			}
			if want := "verdict verdict conviction removal readdition "; kinds != want {
				t.Errorf("incidents %q, want %q", kinds, want)
			}
		})
	}
}

// without returns the other nodes.
func without(c *cluster.Cluster, id dems.NodeID) []dems.NodeID {
	var ids []dems.NodeID
	for _, other := range c.IDs() {
		if other != id {
			ids = append(ids, other)
		}
	}
	return ids
}

// TestWrongResultsAreReplaced has a node vote wrongly: three times in a row convict it, twice do not.
func TestWrongResultsAreReplaced(t *testing.T) {
	t.Parallel()
	c := drill(t, 3)
	accused := without(c, c.WaitLeader())[0]
	inject(t, c, accused, dems.Fault{Kind: dems.WrongResults, Requests: 2})
	number := 1
	propose := func(times int) {
		for range times {
			number++
			c.Propose(batch(number, book("MTL", int(number))))
		}
	}
	propose(6)
	if s, err := standingOf(t.Context(), c, accused, accused); err != nil || s.Condition != dems.Correct || s.Incarnation != 1 {
		t.Fatalf("after two wrong results: %+v, %v", s, err)
	}
	inject(t, c, accused, dems.Fault{Kind: dems.WrongResults, Requests: 3})
	propose(3)
	waitBack(t, c, accused, 2)
	c.WaitEqual()
	if found := incidents(c, accused, accused); len(found) != 5 || found[0].Kind != dems.VerdictIncident {
		t.Errorf("%+v", found)
	}
}

// TestReplaceByHand has an operator replace a follower and then the leader.
func TestReplaceByHand(t *testing.T) {
	t.Parallel()
	c := drill(t, 3)
	first := c.WaitLeader()
	for _, id := range []dems.NodeID{without(c, first)[0], first} {
		c.Eventually("the leader takes it", func(ctx context.Context) error {
			return c.Replica(c.WaitLeader()).Replace(ctx, id)
		})
		waitBack(t, c, id, 2)
	}
	c.Propose(batch(2, book("MTL", 1)))
	c.WaitEqual()
	waitRefused(t, c, func(ctx context.Context, leader dems.NodeID) error { return c.Replica(leader).Replace(ctx, "n9") })
}

// TestNoReplacementWhileAnotherIsDown has a conviction wait until the third node is back.
func TestNoReplacementWhileAnotherIsDown(t *testing.T) {
	t.Parallel()
	c := drill(t, 3)
	followers := without(c, c.WaitLeader())
	c.KillNode(followers[0])
	waitRefused(t, c, func(ctx context.Context, leader dems.NodeID) error {
		return c.Replica(leader).Replace(ctx, followers[1])
	})
	c.StartNode(followers[0])
	c.WaitReady(followers[0])
	c.Eventually("now it is taken", func(ctx context.Context) error {
		return c.Replica(c.WaitLeader()).Replace(ctx, followers[1])
	})
	waitBack(t, c, followers[1], 2)
	c.WaitEqual()
}

// TestQuarantine has a node diverge again and again.
func TestQuarantine(t *testing.T) {
	t.Parallel()
	c := drill(t, 3)
	accused := without(c, c.WaitLeader())[0]
	number := 1
	for life := uint64(1); life <= dems.MaxReplacementsPerHour+1; life++ {
		inject(t, c, accused, dems.Fault{Kind: dems.WrongState})
		number++
		c.Propose(batch(number, book("MTL", int(number))))
		if life <= dems.MaxReplacementsPerHour {
			waitBack(t, c, accused, life+1)
		}
	}
	witness := without(c, accused)[0]
	condition := func(want dems.Condition) {
		t.Helper()
		c.Eventually("it is "+want.String(), func(ctx context.Context) error {
			s, err := standingOf(ctx, c, accused, witness)
			if err == nil && s.Condition != want {
				err = fmt.Errorf("%+v", s)
			}
			return err
		})
	}
	condition(dems.Quarantined)
	c.Eventually("an operator lets it in", func(ctx context.Context) error {
		return c.Replica(c.WaitLeader()).Replace(ctx, accused)
	})
	waitBack(t, c, accused, dems.MaxReplacementsPerHour+2)
	c.WaitEqual()
}

// TestLostFolderIsReplacedByHand loses a node's data for good: it comes back when an operator says so, not before.
func TestLostFolderIsReplacedByHand(t *testing.T) {
	t.Parallel()
	c := drill(t, 3)
	lost := without(c, c.WaitLeader())[0]
	waitRegistered(c, lost)
	c.KillNode(lost)
	if err := os.RemoveAll(c.Dir(lost)); err != nil {
		t.Fatal(err)
	}
	member := c.StartNode(lost)
	if err := member.Err(); err == nil {
		t.Fatal("it came back without its data")
	}
	_ = c.DropNode(lost)
	c.Eventually("the leader takes it", func(ctx context.Context) error {
		return c.Replica(c.WaitLeader()).Replace(ctx, lost)
	})
	c.StartNode(lost)
	waitBack(t, c, lost, 2)
	c.Propose(batch(2, book("MTL", 1)))
	c.WaitEqual()
}

// TestOldFolderDoesNotGetIn starts a convicted node from the data that it had before.
func TestOldFolderDoesNotGetIn(t *testing.T) {
	t.Parallel()
	c := drill(t, 3)
	accused := without(c, c.WaitLeader())[0]
	inject(t, c, accused, dems.Fault{Kind: dems.WrongState})
	c.KillNode(accused)
	old := t.TempDir()
	if err := os.CopyFS(old, os.DirFS(c.Dir(accused))); err != nil {
		t.Fatal(err)
	}
	c.StartNode(accused)
	c.WaitReady(accused)
	inject(t, c, accused, dems.Fault{Kind: dems.WrongState})
	c.Propose(batch(2, book("MTL", 1)))
	waitBack(t, c, accused, 2)
	c.KillNode(accused)
	if err := os.RemoveAll(c.Dir(accused)); err != nil {
		t.Fatal(err)
	}
	if err := os.CopyFS(c.Dir(accused), os.DirFS(old)); err != nil {
		t.Fatal(err)
	}
	c.StartNode(accused)
	c.Propose(batch(3, book("MTL", 2)))
	if status := c.Status(accused); status.Incarnation != 1 || status.Ready || status.Applied > 0 && status.Leader != "" {
		t.Fatalf("the old life: %+v", status)
	}
	if _, err := c.Node(accused).Query(t.Context(), dems.QueryBatch{}); kind(t, err) != dems.NotReady {
		t.Fatal(err)
	}
	c.Eventually("an operator has it replaced", func(ctx context.Context) error {
		return c.Replica(c.WaitLeader()).Replace(ctx, accused)
	})
	waitBack(t, c, accused, 3)
	c.WaitEqual()
}

// waitRegistered waits until the registry has a node.
func waitRegistered(c *cluster.Cluster, id dems.NodeID) {
	c.Eventually(fmt.Sprintf("%s is registered", id), func(ctx context.Context) error {
		known, err := registry(ctx, c, without(c, id)[0])
		if err == nil && !slices.ContainsFunc(known.Nodes, func(r dems.Registration) bool { return r.ID == string(id) }) {
			err = errors.New("not yet")
		}
		return err
	})
}

// TestIncidents kills a follower, starts it again under another leader, and hands leadership over: all of that is told.
func TestIncidents(t *testing.T) {
	t.Parallel()
	c := drill(t, 3)
	leader := c.WaitLeader()
	follower := without(c, leader)[0]
	told := func(of dems.NodeID, kind dems.IncidentKind) {
		t.Helper()
		c.Eventually(fmt.Sprintf("%s of %s is told", kind, of), func(context.Context) error {
			found := incidents(c, of, leader)
			if !slices.ContainsFunc(found, func(i dems.Incident) bool { return i.Kind == kind }) {
				return fmt.Errorf("%+v", found)
			}
			return nil
		})
	}
	told(leader, dems.LeaderChangeIncident)
	c.KillNode(follower)
	told(follower, dems.SuspicionIncident)
	c.Eventually("another one leads", func(ctx context.Context) error { // and has not suspected it
		now := c.WaitLeader()
		if now == leader {
			return c.Replica(leader).Transfer(ctx, without(c, leader)[1])
		}
		return nil
	})
	c.StartNode(follower)
	told(follower, dems.RecoveryIncident)
	c.WaitReady(follower)
	c.Eventually("leadership is handed over", func(ctx context.Context) error { return c.Replica(c.WaitLeader()).Transfer(ctx, follower) })
	told(follower, dems.LeaderChangeIncident)
}

// waitSettled waits until all nodes are registered: an entry between two faults would have the first one be found alone.
func waitSettled(c *cluster.Cluster) {
	c.Eventually("all nodes are registered", func(ctx context.Context) error {
		known, err := registry(ctx, c, c.WaitLeader())
		if err == nil && len(known.Nodes) < len(c.IDs()) {
			err = fmt.Errorf("%+v", known.Nodes)
		}
		return err
	})
	c.WaitEqual()
}

// TestTwoWrongOfThree has two nodes be wrong in different ways: nobody can be convicted. An operator who knows the right one
// has it lead and replaces one of the others; the last is then convicted.
func TestTwoWrongOfThree(t *testing.T) {
	t.Parallel()
	c := drill(t, 3) // without bookings: both might lose the same one, agree, and convict the right node
	waitSettled(c)
	right := c.WaitLeader()
	wrong := without(c, right)
	for _, id := range wrong {
		inject(t, c, id, dems.Fault{Kind: dems.WrongState})
	}
	c.Propose(batch(2, book("MTL", 900)))
	c.Eventually("nobody is convicted, and a replacement is taken", func(ctx context.Context) error {
		if leader := c.WaitLeader(); leader != right {
			return c.Replica(leader).Transfer(ctx, right)
		}
		return c.Replica(right).Replace(ctx, wrong[0])
	})
	waitBack(t, c, wrong[0], 2)
	c.Propose(batch(3, book("MTL", 901)))
	waitBack(t, c, wrong[1], 2)
	c.Propose(batch(4, book("MTL", 902)))
	c.WaitEqual()
	if found := incidents(c, right, right); slices.ContainsFunc(found, func(i dems.Incident) bool { return i.Kind != dems.LeaderChangeIncident }) {
		t.Errorf("the right one: %+v", found)
	}
}

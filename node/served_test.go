package node_test

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
	"dems/internal/cluster"
	"dems/node"
	"dems/transport"
)

// startDrill starts a cluster whose nodes may be made to misbehave, with a session and an event, and returns its leader and a
// follower.
func startDrill(t *testing.T) (c *cluster.Cluster, leader, follower dems.NodeID) {
	t.Helper()
	c = cluster.Start(t, cluster.Config{Change: func(config *node.Config) { config.EnableFaults = true }})
	c.OpenSession(session)
	c.Propose(batch(1, addEvent("MTL", 1000)))
	leader = c.WaitLeader()
	for _, id := range c.IDs() {
		if id != leader {
			follower = id
		}
	}
	return c, leader, follower
}

// spoil injects a fault into a node.
func spoil(t *testing.T, c *cluster.Cluster, id dems.NodeID, fault dems.Fault) {
	t.Helper()
	if err := c.Replica(id).Inject(t.Context(), fault); err != nil {
		t.Fatal(err)
	}
}

// listener reads a node's votes, again and again as front ends do, and keeps them by batch.
type listener struct {
	mu    sync.Mutex
	votes map[uint64]dems.Vote
	ends  int // of streams
}

// listen starts a listener that ends with the test.
func listen(t *testing.T, replica *transport.Replica) *listener {
	l := &listener{votes: make(map[uint64]dems.Vote)}
	ctx, cancel := context.WithCancel(t.Context())
	var group sync.WaitGroup
	group.Go(func() {
		for ctx.Err() == nil {
			_ = replica.Votes(ctx, session, func(votes []dems.Vote) error {
				l.mu.Lock()
				defer l.mu.Unlock()
				for _, vote := range votes {
					if vote.Session == session {
						l.votes[vote.Batch] = vote
					}
				}
				return nil
			})
			l.mu.Lock()
			l.ends++
			l.mu.Unlock()
		}
	})
	t.Cleanup(func() {
		cancel()
		group.Wait()
	})
	return l
}

func (l *listener) vote(number uint64) (dems.Vote, bool) {
	l.mu.Lock()
	defer l.mu.Unlock()
	vote, found := l.votes[number]
	return vote, found
}

// wait waits for the vote on a batch.
func (l *listener) wait(c *cluster.Cluster, number uint64) (vote dems.Vote) {
	c.Eventually(fmt.Sprintf("a vote on batch %d", number), func(context.Context) error {
		found := false
		if vote, found = l.vote(number); !found {
			return errors.New("not yet")
		}
		return nil
	})
	return vote
}

// everyCall returns all calls that a fault may hold.
func everyCall(replica transport.Handler) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"Propose": func(ctx context.Context) error { _, err := replica.Propose(ctx, batch(9, book("MTL", 9))); return err },
		"Query": func(ctx context.Context) error {
			_, err := replica.Query(ctx, dems.QueryBatch{Queries: []dems.Query{{Kind: dems.RegistryQuery}}})
			return err
		},
		"Votes": func(ctx context.Context) error {
			return replica.Votes(ctx, session, func([]dems.Vote) error { return nil })
		},
		"Results":   func(ctx context.Context) error { _, err := replica.Results(ctx, session, 1); return err },
		"Status":    func(ctx context.Context) error { _, err := replica.Status(ctx); return err },
		"ReadIndex": func(ctx context.Context) error { _, err := replica.ReadIndex(ctx); return err },
		"CityLog": func(ctx context.Context) error {
			_, err := replica.CityLog(ctx, dems.City{'M', 'T', 'L'}, 0, 1)
			return err
		},
		"Transfer": func(ctx context.Context) error { return replica.Transfer(ctx, "") },
		"Report": func(ctx context.Context) error {
			return replica.Report(ctx, dems.Report{Kind: dems.WrongAnswerReport, Node: "n1", Incarnation: 1})
		},
		"Suspect": func(ctx context.Context) error {
			_, err := replica.Suspect(ctx, dems.Suspicion{Leader: "n1", Term: 1})
			return err
		},
		"StateAt": func(ctx context.Context) error { _, err := replica.StateAt(ctx, 1); return err },
		"Replace": func(ctx context.Context) error { return replica.Replace(ctx, "n1") },
	}
}

func TestAMuteNodeAnswersNothingButTakesPart(t *testing.T) {
	t.Parallel()
	c, _, mute := startDrill(t)
	heard := listen(t, c.Replica(mute))
	heard.wait(c, 1)
	spoil(t, c, mute, dems.Fault{Kind: dems.Mute})
	reply := c.Propose(batch(2, book("MTL", 1)))
	c.WaitApplied(mute, reply.Vote.Index) // which is asked inside the process
	const patience = 200 * time.Millisecond
	var group sync.WaitGroup
	for name, call := range everyCall(c.Replica(mute)) {
		group.Go(func() {
			ctx, cancel := context.WithTimeout(t.Context(), patience)
			defer cancel()
			// The deadline may pass at either end first.
			if err := call(ctx); err == nil || !strings.Contains(err.Error(), context.DeadlineExceeded.Error()) {
				t.Errorf("%s was answered: %v", name, err)
			}
		})
	}
	group.Wait()
	if vote, found := heard.vote(2); found {
		t.Errorf("the open stream goes on: %+v", vote)
	}
	spoil(t, c, mute, dems.Fault{})
	if vote := heard.wait(c, 2); vote.State != reply.Vote.State || vote.Results != reply.Vote.Results {
		t.Errorf("%+v, the leader has %+v", vote, reply.Vote)
	}
	if _, err := c.Replica(mute).Status(t.Context()); err != nil {
		t.Error(err)
	}
	c.WaitEqual()
}

func TestFaultsDoNotSurviveTheNode(t *testing.T) {
	t.Parallel()
	c, _, mute := startDrill(t)
	spoil(t, c, mute, dems.Fault{Kind: dems.Mute})
	c.StopNode(mute)
	c.StartNode(mute)
	c.WaitReady(mute)
	c.Eventually("it answers", func(ctx context.Context) error {
		ctx, cancel := context.WithTimeout(ctx, time.Second) // the old connection may not have broken yet
		defer cancel()
		_, err := c.Replica(mute).Status(ctx)
		return err
	})
}

func TestASlowNodeAnswersLate(t *testing.T) {
	t.Parallel()
	c, leader, follower := startDrill(t)
	const delay = 150 * time.Millisecond
	for _, id := range []dems.NodeID{leader, follower} {
		spoil(t, c, id, dems.Fault{Kind: dems.Slow, Delay: delay})
		start := time.Now()
		if _, err := c.Replica(id).Status(t.Context()); err != nil || time.Since(start) < delay {
			t.Errorf("%s answered after %v: %v", id, time.Since(start), err)
		}
	}
	start := time.Now()
	if result := outcome(t, c.Propose(batch(2, book("MTL", 1)))); result.Outcome != dems.Booked || time.Since(start) < delay {
		t.Errorf("%+v after %v", result, time.Since(start))
	}
	c.WaitEqual()
}

func TestAWrongNodeHasTheRightState(t *testing.T) {
	t.Parallel()
	c, _, wrong := startDrill(t)
	heard := listen(t, c.Replica(wrong))
	heard.wait(c, 1)
	spoil(t, c, wrong, dems.Fault{Kind: dems.WrongResults, Requests: 4})
	right := c.Propose(batch(2, book("MTL", 1), book("MTL", 2)))
	vote := heard.wait(c, 2)
	if vote.Results == right.Vote.Results || vote.State != right.Vote.State || vote.Index != right.Vote.Index {
		t.Errorf("it votes %+v, the leader %+v", vote, right.Vote)
	}
	reply, err := c.Replica(wrong).Results(t.Context(), session, 2) // uses nothing up
	if err != nil || dems.DigestOf(reply.Results) != vote.Results || reply.Vote.Results != vote.Results {
		t.Errorf("%+v, %v", reply, err)
	}
	results, err := dems.DecodeResults(reply.Results)
	if err != nil || len(results) != 2 || results[0].Code == dems.OK || results[1].Code == dems.OK {
		t.Errorf("%+v, %v", results, err)
	}
	if registry := askRegistry(t, c, wrong, 0); len(registry.FrontEnds) != 1 {
		t.Errorf("%+v", registry)
	}
	if result := read(t, c, wrong, right.Vote.Index, availability()); result.Code == dems.OK {
		t.Errorf("it reads %+v", result)
	}
	again := c.Propose(batch(3, book("MTL", 3), book("MTL", 4))) // one request is left
	vote = heard.wait(c, 3)
	reply, err = c.Replica(wrong).Results(t.Context(), session, 3)
	if results, _ = dems.DecodeResults(reply.Results); err != nil || len(results) != 2 || results[0].Code == dems.OK ||
		results[1].Outcome != dems.Booked || vote.Results == again.Vote.Results {
		t.Errorf("%+v, %v", results, err)
	}
	again = c.Propose(batch(4, book("MTL", 5)))
	if vote := heard.wait(c, 4); vote.Results != again.Vote.Results || vote.State != again.Vote.State {
		t.Errorf("after four requests it votes %+v, the leader %+v", vote, again.Vote)
	}
	if result := read(t, c, wrong, again.Vote.Index, availability()); len(result.Events) != 1 || result.Events[0].Booked != 5 {
		t.Errorf("after four requests it reads %+v", result)
	}
	c.WaitEqual()
}

// askRegistry returns the registry that a node has once it has applied an index.
func askRegistry(t *testing.T, c *cluster.Cluster, id dems.NodeID, index uint64) dems.Registry {
	t.Helper()
	reply, err := c.Replica(id).Query(t.Context(), dems.QueryBatch{MinIndex: index, Queries: []dems.Query{{Kind: dems.RegistryQuery}}})
	if err != nil {
		t.Fatal(err)
	}
	registry, err := dems.DecodeRegistry(reply.Answers[0].Result)
	if err != nil {
		t.Fatal(err)
	}
	return registry
}

func TestAWrongLeaderAnswersWrongly(t *testing.T) {
	t.Parallel()
	c, leader, follower := startDrill(t)
	spoil(t, c, leader, dems.Fault{Kind: dems.WrongResults, Requests: 1})
	wrong := c.Propose(batch(2, book("MTL", 1)))
	if result := outcome(t, wrong); result.Code == dems.OK || wrong.Vote.Results != dems.DigestOf(wrong.Results) {
		t.Errorf("%+v", result)
	}
	c.WaitApplied(follower, wrong.Vote.Index)
	right, err := c.Replica(follower).Results(t.Context(), session, 2)
	if err != nil || outcome(t, right).Outcome != dems.Booked || right.Vote.State != wrong.Vote.State {
		t.Errorf("%+v, %v", right, err)
	}
	if result := outcome(t, c.Propose(batch(3, book("MTL", 2)))); result.Outcome != dems.Booked {
		t.Errorf("%+v", result)
	}
}

func TestFaultsAreForDrills(t *testing.T) {
	t.Parallel()
	c := cluster.Start(t, cluster.Config{Nodes: 1})
	for _, fault := range []dems.Fault{{}, {Kind: dems.WrongState}, {Kind: dems.Mute}} {
		err := c.Node("n1").Inject(t.Context(), fault)
		if kind(t, err) != dems.BadRequest || !strings.Contains(err.Error(), "--enable-faults") {
			t.Errorf("%+v: %v", fault, err)
		}
	}
}

// TestNobodySpeaksForAnother has a front end, and a node that is not running, propose what they may not.
func TestNobodySpeaksForAnother(t *testing.T) {
	t.Parallel()
	c := cluster.New(t, cluster.Config{})
	c.StartNode("n1")
	c.StartNode("n2")
	n3 := c.Endpoint(transport.RoleNode, "n3")
	defer n3.Close()
	asNode := func(leader dems.NodeID) transport.Handler { return n3.Peer(leader) } // which n3 closes
	asFrontEnd := func(leader dems.NodeID) transport.Handler { return c.Replica(leader) }
	inside := func(leader dems.NodeID) transport.Handler { return c.Node(leader) }
	// propose asks whoever leads.
	propose := func(by func(dems.NodeID) transport.Handler, entry dems.Entry) (index uint64, err error) {
		c.Eventually("somebody leads", func(ctx context.Context) error {
			var reply dems.BatchReply
			reply, err = by(c.WaitLeader()).Propose(ctx, dems.AppendEntry(nil, &entry))
			index = reply.Vote.Index
			if err != nil && kind(t, err) != dems.BadRequest {
				return err
			}
			return nil
		})
		return index, err
	}
	frontEnd := func(id string) dems.Entry {
		return dems.Entry{Kind: dems.RegisterFrontEndEntry, Registration: dems.Registration{ID: id, Session: 5, Time: time.UnixMilli(1)}}
	}
	verdict := func(by dems.NodeID) dems.Entry {
		return dems.Entry{Kind: dems.VerdictEntry, Verdict: dems.Verdict{
			Node: "n1", Incarnation: 1, By: by, ByIncarnation: 1, Index: 1, Time: time.UnixMilli(1),
		}}
	}
	replacement := dems.Entry{Kind: dems.ReplacementEntry, Replacement: dems.Replacement{Node: "n1", Incarnation: 1, Time: time.UnixMilli(1)}}
	incident := dems.Entry{Kind: dems.IncidentEntry, Incident: dems.Incident{Kind: dems.RecoveryIncident, Time: time.UnixMilli(1)}}
	registered := dems.Entry{Kind: dems.RegisterNodeEntry, Registration: dems.Registration{ID: "n2", Time: time.UnixMilli(1)}}
	for name, forbidden := range map[string]struct {
		by    func(dems.NodeID) transport.Handler
		entry dems.Entry
	}{
		"front end: another one":     {asFrontEnd, frontEnd("fe2")},
		"front end: a node":          {asFrontEnd, registered},
		"front end: a verdict":       {asFrontEnd, verdict("n3")},
		"front end: a replacement":   {asFrontEnd, replacement},
		"front end: an incident":     {asFrontEnd, incident},
		"node: a front end":          {asNode, frontEnd("fe1")},
		"node: one of its name":      {asNode, frontEnd("n3")},
		"node: another node":         {asNode, registered},
		"node: another node's words": {asNode, verdict("n2")},
		"node: commands": {asNode, dems.Entry{Kind: dems.BatchEntry, Batch: dems.Batch{
			Session: 5, Number: 1, Commands: []dems.Command{book("MTL", 1)},
		}}},
	} {
		if _, err := propose(forbidden.by, forbidden.entry); err == nil || !strings.Contains(err.Error(), "may not propose") {
			t.Errorf("%s: %v", name, err)
		}
	}
	if _, err := propose(asFrontEnd, frontEnd("fe1")); err != nil {
		t.Errorf("a front end says who it is: %v", err)
	}
	if _, err := propose(asNode, incident); err != nil {
		t.Errorf("a node tells of an incident: %v", err)
	}
	other := frontEnd("fe2")
	other.Registration.Session++
	index, err := propose(inside, other)
	if err != nil {
		t.Errorf("inside the process everything may be proposed: %v", err)
	}
	if registry := askRegistry(t, c, "n1", index); len(registry.FrontEnds) != 2 {
		t.Errorf("%+v", registry)
	}
}

package frontend

import (
	"context"
	"errors"
	"maps"
	"reflect"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
)

// carer is what the nodes of a test do when they are asked to replace a node or to misbehave, and what they were asked.
type carer struct {
	h       *harness
	replace func(ctx context.Context, leads bool) error // by the node that is asked
	inject  map[string]error                            // by address; errHangs: no answer comes

	mu       sync.Mutex
	replaced []dems.NodeID
	injected map[string][]dems.Fault
}

var errHangs = errors.New("no answer comes")

// careReplica is a fake replica whose answers to Replace and Inject the carer decides.
type careReplica struct {
	Replica
	*carer
	address string
}

// Replace implements Replica.
func (r *careReplica) Replace(ctx context.Context, id dems.NodeID) error {
	r.mu.Lock()
	r.replaced = append(r.replaced, id)
	r.mu.Unlock()
	r.h.w.mu.Lock()
	leads := r.h.w.leader != nil && r.h.w.leader.address == r.address
	r.h.w.mu.Unlock()
	return r.replace(ctx, leads)
}

// Inject implements Replica.
func (r *careReplica) Inject(ctx context.Context, fault dems.Fault) error {
	err := r.inject[r.address]
	if errors.Is(err, errHangs) {
		<-ctx.Done()
		return &dems.ReplicaError{Kind: dems.UnknownOutcome, Err: ctx.Err()}
	}
	if err == nil {
		r.mu.Lock()
		defer r.mu.Unlock()
		r.injected[r.address] = append(r.injected[r.address], fault)
	}
	return err
}

func (c *carer) asked() []dems.NodeID {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.replaced)
}

// cared is ready with three nodes that answer as the carer says.
func cared(t *testing.T, body func(h *harness, c *carer)) {
	t.Helper()
	c := &carer{inject: map[string]error{}, injected: map[string][]dems.Fault{}}
	synctest3(t, func(h *harness) {
		c.h = h
		h.core = h.start("fe1", func(config *Config) {
			config.Dial = func(address string) Replica { return &careReplica{h.w.dial(address), c, address} }
		})
		h.awaitReady(h.core)
		body(h, c)
	})
}

// within gives a call so much time, and it has to keep to it.
func within(t *testing.T, limit time.Duration, call func(ctx context.Context) error) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), limit)
	defer cancel()
	started := time.Now()
	err := call(ctx)
	if took := time.Since(started); took > limit {
		t.Errorf("took %v", took)
	}
	return err
}

// wants checks the code of an error and that its detail tells something.
func wants(t *testing.T, err error, code dems.Code, told string) {
	t.Helper()
	if dems.CodeOf(err) != code || code != dems.OK && !strings.Contains(err.Error(), told) {
		t.Errorf("got %v, want %s: %s", err, code, told)
	}
}

func (h *harness) replace(id dems.NodeID) error {
	h.t.Helper()
	return within(h.t, time.Second, func(ctx context.Context) error { return h.core.Replace(ctx, id) })
}

func notLeader(leads bool) error {
	if leads {
		return nil
	}
	return &dems.ReplicaError{Kind: dems.NotLeader}
}

func TestReplacementIsTheLeaders(t *testing.T) {
	cared(t, func(h *harness, c *carer) {
		c.replace = func(_ context.Context, leads bool) error { return notLeader(leads) }
		wants(t, h.replace("n3"), dems.OK, "")
		wants(t, h.replace("n9"), dems.NotFound, "no node n9")
		equal(t, []dems.NodeID{"n3"}, c.asked())
		h.w.elect(h.node(2)) // the old leader refuses, and the new one is found
		wants(t, h.replace("n1"), dems.OK, "")
		if asked := c.asked(); len(asked) < 2 || asked[len(asked)-1] != "n1" {
			t.Errorf("asked for %v", asked)
		}
	})
}

// A front end that has just started does not know the nodes' names yet: it waits rather than deny that a node exists.
func TestReplacementWaitsForTheNodesToBeKnown(t *testing.T) {
	synctest3(t, func(h *harness) {
		h.eachNode(func(n *fakeNode) { h.w.set(n, dead) })
		h.core = h.start("fe1")
		wants(t, h.replace("n3"), dems.Unavailable, "")
		wants(t, within(t, time.Second, func(ctx context.Context) error { return h.core.Inject(ctx, "n3", dems.Fault{Kind: dems.Mute}) }),
			dems.Unavailable, "")
		wants(t, within(t, time.Second, h.core.EndFaults), dems.Unavailable, "")
		h.eachNode(func(n *fakeNode) { h.w.set(n, up) })
		wants(t, h.replace("n3"), dems.OK, "")
	})
}

func TestReplacementThatIsRefused(t *testing.T) {
	cared(t, func(h *harness, c *carer) {
		c.replace = func(context.Context, bool) error {
			return &dems.ReplicaError{Kind: dems.BadRequest, Err: errors.New("n1 is being replaced")}
		}
		wants(t, h.replace("n3"), dems.Unavailable, "Node n3 cannot be replaced now: n1 is being replaced.")
		equal(t, 1, len(c.asked())) // it is final, and no sign against the leader
		equal(t, "n1", string(h.core.Status(context.Background()).Leader))
	})
}

// TestReplacementIsNotAskedForTwice: where the first question may have been taken, a second one could replace the node once
// more.
func TestReplacementIsNotAskedForTwice(t *testing.T) {
	cared(t, func(h *harness, c *carer) {
		c.replace = func(context.Context, bool) error { return &dems.ReplicaError{Kind: dems.UnknownOutcome} }
		wants(t, h.replace("n3"), dems.Indeterminate, "before you ask again")
		equal(t, 1, len(c.asked()))
		c.replace = func(ctx context.Context, _ bool) error {
			<-ctx.Done()
			return ctx.Err()
		}
		wants(t, h.replace("n3"), dems.Indeterminate, "before you ask again")
		equal(t, 2, len(c.asked()))
		// What was certainly not taken is asked for until the time is over.
		c.replace = func(context.Context, bool) error { return &dems.ReplicaError{Kind: dems.NotApplied} }
		wants(t, h.replace("n3"), dems.Unavailable, "no leader answers")
		if asked := len(c.asked()); asked < 4 || asked > 100 {
			t.Errorf("asked %d times", asked-2)
		}
	})
}

func TestInjection(t *testing.T) {
	cared(t, func(h *harness, c *carer) {
		fault := dems.Fault{Kind: dems.Slow, Requests: 3, Delay: time.Second}
		inject := func(id dems.NodeID) error {
			return within(t, laneTimeout, func(ctx context.Context) error { return h.core.Inject(ctx, id, fault) })
		}
		wants(t, inject("n2"), dems.OK, "")
		equal(t, map[string][]dems.Fault{h.node(2).address: {fault}}, maps.Clone(c.injected))
		wants(t, inject("n9"), dems.NotFound, "no node n9")
		for _, test := range []struct {
			err  error
			code dems.Code
			told string
		}{
			{&dems.ReplicaError{Kind: dems.BadRequest, Err: errors.New("not started for drills")}, dems.NotFound, "not started for drills"},
			{&dems.ReplicaError{Kind: dems.NotApplied}, dems.Unavailable, "n2 does not answer"},
			{&dems.ReplicaError{Kind: dems.UnknownOutcome}, dems.Indeterminate, "may be there or not"},
			{errors.New("anything"), dems.Indeterminate, "may be there or not"},
			{errHangs, dems.Indeterminate, "may be there or not"},
		} {
			c.inject[h.node(2).address] = test.err
			wants(t, inject("n2"), test.code, test.told)
		}
		equal(t, 1, len(c.injected))
	})
}

func TestFaultsAreEndedOnWhoeverAnswers(t *testing.T) {
	refusal := &dems.ReplicaError{Kind: dems.BadRequest, Err: errors.New("not started for drills")}
	gone := &dems.ReplicaError{Kind: dems.NotApplied}
	for _, test := range []struct {
		answers [3]error
		code    dems.Code
		ended   int
		told    string
	}{
		{[3]error{}, dems.OK, 3, ""},
		{[3]error{gone, nil, gone}, dems.OK, 1, ""},
		{[3]error{refusal, nil, gone}, dems.OK, 1, ""},
		{[3]error{refusal, gone, refusal}, dems.NotFound, 0, "not started for drills"},
		{[3]error{gone, gone, gone}, dems.Unavailable, 0, "No node answers"},
		{[3]error{nil, errHangs, nil}, dems.Indeterminate, 2, "n2 did not answer in time"},
	} {
		cared(t, func(h *harness, c *carer) {
			for i, answer := range test.answers {
				c.inject[h.w.nodes[i].address] = answer
			}
			wants(t, within(t, laneTimeout, h.core.EndFaults), test.code, test.told)
			for address, faults := range c.injected {
				if len(faults) != 1 || !reflect.DeepEqual(faults[0], dems.Fault{}) {
					t.Errorf("%s was told %v", address, faults)
				}
			}
			equal(t, test.ended, len(c.injected))
		})
	}
}

// The incidents that a majority of the nodes has are the answer, whatever one node says.
func TestIncidentsAreAMajoritys(t *testing.T) {
	ready(t, 3, func(h *harness) {
		version := uint64(h.w.length()) // no more than the nodes have applied: they would wait for it
		happened := []dems.Incident{{Sequence: 7, Time: time.UnixMilli(1000).UTC(), Kind: dems.RemovalIncident, Node: "n2", Incarnation: 1}}
		answer := func(incidents []dems.Incident) lies {
			return lies{answer: func(q *dems.Query, a *dems.Answer) {
				if q.Kind == dems.IncidentsQuery && q.From == 5 {
					*a = dems.Answer{Version: version, Result: dems.AppendIncidents(nil, incidents)}
				}
			}}
		}
		h.w.tell(h.node(1), answer(happened))
		h.w.tell(h.node(2), answer(nil))
		h.w.tell(h.node(3), answer(happened))
		read := func() (incidents []dems.Incident, err error) {
			err = within(t, 2*time.Second, func(ctx context.Context) error {
				incidents, err = h.core.Incidents(ctx, 5)
				return err
			})
			return incidents, err
		}
		incidents, err := read()
		wants(t, err, dems.OK, "")
		equal(t, happened, incidents)

		// No two agree: the front end asks until the time is over, and says that it has no answer.
		h.w.tell(h.node(3), answer(append(happened, happened...)))
		_, err = read()
		wants(t, err, dems.Unavailable, "")
		// A majority that answers nonsense.
		nonsense := lies{answer: func(q *dems.Query, a *dems.Answer) { *a = dems.Answer{Version: version, Result: []byte{0xff}} }}
		h.eachNode(func(n *fakeNode) { h.w.tell(n, nonsense) })
		_, err = read()
		wants(t, err, dems.Internal, "")
	})
}

package frontend

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

// unreachable is how a leader is not there for the front end, while the nodes are content with it.
var unreachable = map[string]reach{"cut off": cut, "silent": silent}

// noticed is how long it may take until a front end asks others: what it polls the leader with has to fail first.
const noticed = pollInterval + pollTimeout + 2*patience

// The leader does not reach the front end, and everybody else: requests go on by way of the others, without an election, and
// straight again when that is mended.
func TestLeaderReachesNodesOnly(t *testing.T) {
	for name, into := range unreachable {
		for _, nodes := range []int{3, 5} {
			t.Run(name, func(t *testing.T) {
				ready(t, nodes, func(h *harness) {
					h.must(addEvent(0, 5), 0)
					h.w.set(h.node(1), into)
					h.wantView(h.must(addEvent(1, 5), noticed), 5, 0)
					for i := range 20 {
						h.wantView(h.must(addEvent(2+i, 5), patience), 5, 0)
					}
					h.wantApplied(addEvent(1, 5), 1)
					h.wantApplied(addEvent(2, 5), 1)
					if forwarded := counted(t, h.core.proposer.metrics.forwarded); forwarded < 21 || forwarded > 25 {
						t.Errorf("%d batches were forwarded", forwarded)
					}
					if h.core.members.view().leader.name() != "n1" || h.w.term != 1 {
						t.Errorf("%s leads in term %d", h.core.members.view().leader.name(), h.w.term)
					}
					h.w.set(h.node(1), up)
					time.Sleep(2 * pollInterval)
					before := counted(t, h.core.proposer.metrics.forwarded)
					h.must(addEvent(30, 5), 0)
					if forwarded := counted(t, h.core.proposer.metrics.forwarded); forwarded != before {
						t.Error("the leader is there again, and a batch was forwarded")
					}
				})
			})
		}
	}
}

// A front end that has never reached the leader opens its session by way of the others.
func TestFrontEndStartsWithoutTheLeader(t *testing.T) {
	for name, into := range unreachable {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.w.set(h.node(1), into)
				other := h.start("fe2")
				h.awaitReady(other)
				h.wantView(h.mustAt(other, addEvent(1, 5), noticed), 5, 0)
			})
		})
	}
}

// withholds is what a node does that is asked to hand something on, and does not.
var withholds = map[string]proposal{
	"refuses": func(context.Context, []byte) (dems.BatchReply, error) {
		return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotLeader, Leader: "n2"}
	},
	"is busy": func(context.Context, []byte) (dems.BatchReply, error) {
		return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotApplied}
	},
	"is of an older version": func(context.Context, []byte) (dems.BatchReply, error) {
		return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.UnknownOutcome}
	},
	"hangs": func(ctx context.Context, _ []byte) (dems.BatchReply, error) {
		<-ctx.Done()
		return dems.BatchReply{}, errGone
	},
	"pretends": func(context.Context, []byte) (dems.BatchReply, error) {
		return dems.BatchReply{Vote: dems.Vote{Node: "n2", Incarnation: 1, Index: 1 << 60}}, nil
	},
}

// Of the nodes by way of which the leader can be reached, one hands nothing on: another one is asked, once for all requests.
func TestNodeHandsNothingOn(t *testing.T) {
	for name, forward := range withholds {
		for unreached, into := range unreachable {
			t.Run(name+", leader "+unreached, func(t *testing.T) {
				ready(t, 5, func(h *harness) {
					h.w.tell(h.node(2), lies{forward: forward})
					h.w.set(h.node(1), into)
					h.must(addEvent(0, 5), noticed+doubt)
					for i := range 10 {
						h.must(addEvent(1+i, 5), patience)
						h.wantApplied(addEvent(1+i, 5), 1)
					}
				})
			})
		}
	}
}

// The front end is started meanwhile: by way of the one it opens no session, whatever that says.
func TestNodeHandsNoRegistrationOn(t *testing.T) {
	for name, forward := range withholds {
		t.Run(name, func(t *testing.T) {
			ready(t, 5, func(h *harness) {
				h.w.tell(h.node(2), lies{forward: forward})
				h.w.set(h.node(1), silent)
				other := h.start("fe2")
				time.Sleep(3 * time.Second)
				h.awaitReady(other)
				first := addEvent(0, 5)
				first.Key = "first" // else it may be answered that nobody knows what became of it in the session that was not opened
				h.mustAt(other, first, doubt+sessionTimeout)
				for i := range 10 {
					h.mustAt(other, addEvent(1+i, 5), patience)
				}
			})
		})
	}
}

// It says that it has opened the session, and hands on what comes then, which nobody knows a session for, and perhaps tells so late.
func TestNodeHandsOnWithoutASession(t *testing.T) {
	for _, takes := range []time.Duration{0, 200 * time.Millisecond} {
		for window := range 3 {
			ready(t, 5, func(h *harness) {
				h.w.tell(h.node(2), lies{forward: func(ctx context.Context, entry []byte) (dems.BatchReply, error) {
					if decoded, err := dems.DecodeEntry(entry); err == nil && decoded.Kind == dems.RegisterFrontEndEntry {
						return dems.BatchReply{}, nil
					}
					reply, err := (&fakeReplica{h.w, h.node(2).address}).forward(ctx, entry)
					time.Sleep(takes)
					return reply, err
				}})
				h.w.set(h.node(1), silent)
				other := h.start("fe2", func(c *Config) { c.BatchesInFlight = 1 + window })
				time.Sleep(3 * time.Second)
				h.awaitReady(other)
				var clients sync.WaitGroup
				for client := range 4 {
					clients.Go(func() {
						for i := range 10 {
							h.mustAt(other, addEvent(client*10+i, 5), 2*takes+3*patience)
						}
					})
				}
				clients.Wait()
			})
		}
	}
}

// A node hands a batch on and denies it, and no other votes or can be asked, so that nobody knows better while the client waits.
func TestNodeDeniesWhatItHandedOn(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(3), lies{status: func(s *dems.NodeStatus) { s.Leader = "" }})
		time.Sleep(2 * pollInterval)
		h.w.tell(h.node(2), lies{forward: func(ctx context.Context, entry []byte) (dems.BatchReply, error) {
			_, _ = (&fakeReplica{h.w, h.node(2).address}).forward(ctx, entry)
			return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotApplied}
		}, mute: true, keeps: true})
		h.w.set(h.node(1), silent)
		time.Sleep(noticed) // nothing of it is asked any more
		h.fails(addEvent(0, 5), dems.Indeterminate, requestDeadline)
		h.wantApplied(addEvent(0, 5), 1)
	})
}

// A front end that reaches everybody asks nobody else, not even before it knows that it does.
func TestNoDetourWithoutNeed(t *testing.T) {
	for first := range 20 {
		synctest.Test(t, func(t *testing.T) {
			h := &harness{t: t, w: newWorld(t, 3)}
			defer h.stop()
			h.w.delayBy(rand.New(rand.NewPCG(uint64(first), 1)), 20*time.Millisecond)
			for _, n := range h.w.nodes {
				h.w.tell(n, lies{forward: func(context.Context, []byte) (dems.BatchReply, error) {
					t.Errorf("%s was asked to hand something on", n.id)
					return dems.BatchReply{}, errGone
				}})
			}
			h.core = h.start("fe1")
			h.awaitReady(h.core)
			h.must(addEvent(0, 5), time.Second)
		})
	}
}

// A node that answers the front end and knows no leader is no way to it.
func TestNoDetourByWayOfALostNode(t *testing.T) {
	ready(t, 5, func(h *harness) {
		asked := 0
		h.w.tell(h.node(2), lies{status: func(s *dems.NodeStatus) { s.Leader = "" }, forward: func(context.Context, []byte) (dems.BatchReply, error) {
			asked++
			return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotLeader}
		}})
		time.Sleep(2 * pollInterval)
		h.w.set(h.node(1), silent)
		h.must(addEvent(0, 5), noticed)
		before := counted(t, h.core.proposer.metrics.suspicions)
		for i := range 20 {
			h.must(addEvent(1+i, 5), patience)
		}
		if after := counted(t, h.core.proposer.metrics.suspicions); asked > 0 || after != before {
			t.Errorf("asked %d times, %d suspicions", asked, after-before)
		}
	})
}

// A node that hands batches on, and says something else of them than the others, counts as one voice.
func TestNodeHandsOnAndLies(t *testing.T) {
	ready(t, 5, func(h *harness) {
		h.w.tell(h.node(2), lies{results: func(_ int, result *dems.Result) { result.Sequence += 1000 }})
		h.w.set(h.node(1), silent)
		h.must(addEvent(0, 5), noticed)
		for i := range 10 {
			reply := h.must(addEvent(1+i, 5), patience)
			if reply.Sequence >= 1000 || reply.Agreeing < 3 {
				t.Errorf("%+v", reply)
			}
		}
	})
}

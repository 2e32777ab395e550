package frontend

import (
	"context"
	"testing"
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

// Of the nodes by way of which the leader can be reached, some hand nothing on: another one is asked.
func TestNodeHandsNothingOn(t *testing.T) {
	for name, forward := range map[string]proposal{
		"refuses": func(context.Context, []byte) (dems.BatchReply, error) {
			return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotLeader, Leader: "n2"}
		},
		"is busy": func(context.Context, []byte) (dems.BatchReply, error) {
			return dems.BatchReply{}, &dems.ReplicaError{Kind: dems.NotApplied}
		},
		"breaks": func(context.Context, []byte) (dems.BatchReply, error) { return dems.BatchReply{}, errGone },
		"hangs": func(ctx context.Context, _ []byte) (dems.BatchReply, error) {
			<-ctx.Done()
			return dems.BatchReply{}, errGone
		},
	} {
		for unreached, into := range unreachable {
			t.Run(name+", leader "+unreached, func(t *testing.T) {
				ready(t, 3, func(h *harness) {
					h.w.tell(h.node(2), lies{forward: forward})
					h.w.set(h.node(1), into)
					h.must(addEvent(0, 5), noticed+doubt)
					for i := range 10 {
						h.must(addEvent(1+i, 5), doubt+2*patience)
						h.wantApplied(addEvent(1+i, 5), 1)
					}
				})
			})
		}
	}
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

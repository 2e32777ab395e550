package frontend

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

func replyFirst(c *Config) { c.Reply = ReplyFirst }

func TestReplyFirst(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.setLate(h.node(2), true)
		h.w.setLate(h.node(3), true)
		reply := h.must(addEvent(1, 5), 0)
		h.wantView(reply, 5, 0)
		h.wantVotes(reply, 1, 3)
		h.w.setLate(h.node(2), false)
		h.wantView(h.must(getEvent(1), 0), 5, 0)
		if wrong := counted(t, h.core.proposer.metrics.early); wrong != 0 {
			t.Errorf("%d right answers were counted as wrong", wrong)
		}
	}, replyFirst)
}

func TestReplyFirstChecksLater(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.setLate(h.node(2), true)
		h.w.setLate(h.node(3), true)
		h.w.tell(h.node(1), lies{results: alterCapacity(2)})
		h.wantView(h.must(addEvent(1, 5), 0), 7, 0) // wrong, as the mode allows
		if wrong := counted(t, h.core.proposer.metrics.early); wrong != 0 {
			t.Error("counted as wrong before anybody else has answered")
		}
		h.w.setLate(h.node(2), false)
		h.w.setLate(h.node(3), false)
		synctest.Wait()
		if wrong := counted(t, h.core.proposer.metrics.early); wrong != 1 {
			t.Errorf("%d wrong answers were counted, want 1", wrong)
		}
		h.wantView(h.must(getEvent(1), 0), 5, 0)
	}, replyFirst)
}

// What one node says before a majority confirms it must not stall the reads: not the index that they wait for.
func TestReplyFirstBelievesNoIndex(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(1), lies{
			results: func(_ int, result *dems.Result) { result.Sequence = 1 << 60 },
			vote:    func(vote *dems.Vote) { vote.Index = 1 << 60 },
		})
		h.must(addEvent(1, 5), 0)
		h.wantView(h.must(getEvent(1), 0), 5, 0)
	}, replyFirst)
}

func TestReplyFirstIgnoresRubbish(t *testing.T) {
	for name, rubbish := range map[string][]byte{
		"rubbish": []byte("rubbish"), "nothing": nil, "no results": dems.AppendResults(nil, nil),
		"too many": dems.AppendResults(nil, make([]dems.Result, 2)),
	} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.w.tell(h.node(1), lies{bytes: func(reply *dems.BatchReply) { reply.Results = rubbish }})
				h.wantView(h.must(addEvent(1, 5), patience), 5, 0)
			}, replyFirst)
		})
	}
}

// The check of a batch that was answered goes on without its waiters, but not for ever.
func TestReplyFirstChecksForAWhile(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.setLate(h.node(2), true)
		h.w.setLate(h.node(3), true)
		h.must(addEvent(1, 5), 0)
		h.must(addEvent(2, 5), 0)
		ctx, cancel := context.WithTimeout(context.Background(), 2*checkTimeout)
		defer cancel()
		started := time.Now()
		if _, err := h.core.Do(ctx, addEvent(3, 5)); err != nil { // both places in flight are taken by checks
			t.Fatal(err)
		}
		if took := time.Since(started); took > checkTimeout+2*patience {
			t.Errorf("a check took %v", took)
		}
	}, replyFirst)
}

func TestReplyFirstSessionLost(t *testing.T) {
	ready(t, 3, func(h *harness) {
		for i := range 3 {
			h.forgetSessions()
			h.wantView(h.must(addEvent(i, 5), 0), 5, 0)
			h.wantApplied(addEvent(i, 5), 2) // once in the old session, where it had no effect
		}
	}, replyFirst)
}

// An answer that one node made up, while the others do not know the session: it stays wrong, as the mode allows, and is
// counted. The command is not applied behind the client's back.
func TestReplyFirstMadeUp(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(1), lies{bytes: func(reply *dems.BatchReply) {
			reply.Results = dems.AppendResults(nil, []dems.Result{{Outcome: dems.Created}})
		}})
		h.forgetSessions()
		h.must(addEvent(1, 5), 0)
		h.w.tell(h.node(1), lies{})
		h.must(addEvent(2, 5), 0)
		h.wantApplied(addEvent(1, 5), 1) // in the old session, where it had no effect
		if reply, err := h.do(getEvent(1)); err != nil || reply.Result.Code != dems.EventNotFound {
			t.Errorf("got %+v, %v", reply, err)
		}
		if wrong := counted(t, h.core.proposer.metrics.early); wrong != 1 {
			t.Errorf("%d wrong answers were counted", wrong)
		}
	}, replyFirst)
}

// A batch that was answered, and is only being checked, neither holds up the end nor is answered again.
func TestReplyFirstStops(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.setLate(h.node(2), true)
		h.w.setLate(h.node(3), true)
		h.must(addEvent(1, 5), 0)
		h.stop()
	}, replyFirst)
}

// No majority is found for a batch that was answered: it is counted, and that is all.
func TestReplyFirstWithoutAMajority(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(2), lies{results: alterCapacity(1)})
		h.w.tell(h.node(3), lies{results: alterCapacity(2)})
		h.w.setLate(h.node(2), true)
		h.wantView(h.must(addEvent(1, 5), 0), 5, 0)
		h.w.setLate(h.node(2), false)
		synctest.Wait()
		if split := counted(t, h.core.proposer.metrics.split); split != 1 {
			t.Errorf("%d batches without a majority were counted", split)
		}
		h.w.tell(h.node(2), lies{})
		h.must(addEvent(2, 5), 0)
	}, replyFirst)
}

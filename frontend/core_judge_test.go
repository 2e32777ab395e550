package frontend

import (
	"context"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

// reports returns what every node has been told, after checking that all that are there were told the same.
func (h *harness) reports() []dems.Report {
	h.t.Helper()
	synctest.Wait()
	h.w.mu.Lock()
	defer h.w.mu.Unlock()
	told := slices.Clone(h.w.nodes[0].reports)
	for _, n := range h.w.nodes[1:] {
		if n.reach == up {
			equal(h.t, told, n.reports)
		}
	}
	return told
}

// wantStrikes checks how many strikes a node has, and what it is said to be.
func (h *harness) wantStrikes(node, strikes int, state string) {
	h.t.Helper()
	synctest.Wait()
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if got := h.core.Status(ctx).Nodes[node-1]; got.Strikes != strikes || got.State != state {
		h.t.Errorf("n%d has %d strikes and is %s, want %d and %s", node, got.Strikes, got.State, strikes, state)
	}
}

// wantAccusation checks that the reports are two of wrong answers of a node and then an accusation.
func (h *harness) wantAccusation(node int, indexes ...uint64) {
	h.t.Helper()
	told := h.reports()
	if len(told) != 3 {
		h.t.Fatalf("%d reports: %+v", len(told), told)
	}
	for i, report := range told {
		want := dems.WrongAnswerReport
		if i == 2 {
			want = dems.AccusationReport
		}
		if report.Kind != want || report.Node != h.node(node).id || report.Incarnation != 1 || report.Strikes != i+1 {
			h.t.Errorf("report %d: %+v", i+1, report)
		}
		equal(h.t, indexes[:i+1], report.Indexes)
		if report.Expected == "" || report.Expected == report.Answered {
			h.t.Errorf("expected %q, answered %q", report.Expected, report.Answered)
		}
	}
}

// slowAnswers has all nodes take a while to answer reads, so that all are asked before there is a majority.
func (h *harness) slowAnswers() {
	for _, n := range h.w.nodes {
		h.w.tell(n, lies{answer: func(*dems.Query, *dems.Answer) { time.Sleep(time.Millisecond) }})
	}
}

// stateLie is a state that differs from the right one.
func stateLie(vote *dems.Vote) { vote.State[5]++ }

// Whatever a node does wrong on three writes in a row, clients get the right answers, it is accused, and the entries are named.
func TestWrongWritesAreStrikes(t *testing.T) {
	for name, test := range map[string]struct {
		lie        lies
		leaderOnly bool
	}{
		"results":     {lie: lies{results: alterCapacity(1)}},
		"undisclosed": {lie: lies{results: alterCapacity(1), keeps: true}},
		"state":       {lie: lies{vote: stateLie}},
		"zero results": {lie: lies{vote: func(vote *dems.Vote) { vote.Results = dems.DigestOf(dems.AppendResults(nil, nil)) },
			bytes: func(reply *dems.BatchReply) { reply.Results = dems.AppendResults(nil, nil) }}},
		"rubbish": {lie: lies{vote: func(vote *dems.Vote) { vote.Results = dems.DigestOf([]byte("rubbish")) },
			bytes: func(reply *dems.BatchReply) { reply.Results = []byte("rubbish") }}},
		"other bytes than its vote": {lie: lies{bytes: func(reply *dems.BatchReply) { reply.Results = []byte("rubbish") }}, leaderOnly: true},
		"no bytes":                  {lie: lies{bytes: func(reply *dems.BatchReply) { reply.Results = nil }}, leaderOnly: true},
	} {
		for wrong := 1; wrong <= 3 && (wrong == 1 || !test.leaderOnly); wrong++ {
			t.Run(name, func(t *testing.T) {
				ready(t, 3, func(h *harness) {
					h.must(addEvent(0, 5), 0)
					h.wantStrikes(wrong, 0, "healthy")
					h.w.tell(h.node(wrong), test.lie)
					var indexes []uint64
					for i := range 3 {
						reply := h.must(addEvent(i+1, 5), 0)
						h.wantView(reply, 5, 0)
						indexes = append(indexes, reply.Sequence)
						h.wantStrikes(wrong, i+1, "suspected")
					}
					h.wantAccusation(wrong, indexes...)
					h.w.tell(h.node(wrong), lies{})
					h.must(addEvent(5, 5), 0)
					h.wantStrikes(wrong, 0, "healthy")
					if told := h.reports(); len(told) != 3 {
						t.Errorf("reported after it was right again: %+v", told[3:])
					}
				})
			})
		}
	}
}

// A vote that comes after the answer is judged as well.
func TestLateVotesAreJudged(t *testing.T) {
	for name, lie := range map[string]lies{"results": {results: alterCapacity(1)}, "state": {vote: stateLie}, "right": {}} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.w.tell(h.node(3), lie)
				h.w.setLate(h.node(3), true)
				var indexes []uint64
				for i := range 3 {
					indexes = append(indexes, h.must(addEvent(i, 5), 0).Sequence)
				}
				time.Sleep(3 * time.Second)
				equal(t, 0, len(h.reports()))
				h.w.setLate(h.node(3), false)
				if name == "right" {
					equal(t, 0, len(h.reports()))
					return
				}
				h.reports()
				told := h.reports()
				last := told[len(told)-1]
				if last.Kind != dems.AccusationReport || last.Strikes != 3 {
					t.Errorf("got %+v", told)
				}
				equal(t, indexes, last.Indexes)
			})
		})
	}
}

// Only so many decided batches are kept.
func TestArchiveIsBounded(t *testing.T) {
	var a archive
	for number := uint64(1); number <= 3*archiveLimit; number++ {
		a.add(&flight{number: number})
	}
	if a.find(2*archiveLimit) != nil || a.find(2*archiveLimit+1) == nil || a.find(3*archiveLimit+1) != nil {
		t.Error("not the newest ones are kept")
	}
	held := func() (flights, bytes int) {
		for _, f := range a.flights {
			if f != nil {
				flights++
				bytes += f.kept
			}
		}
		return flights, bytes
	}
	v := electionOf(1)
	for number := uint64(3*archiveLimit + 1); number <= 4*archiveLimit; number++ {
		f, p := newFlight(1, number, nil), &proposer{}
		p.castReply(f, v.nodes[0], &dems.BatchReply{Vote: dems.Vote{Node: "n1"}, Results: make([]byte, 1<<20)})
		counted := f.tally(v)
		f.decide(v, &counted, 1)
		a.add(f)
		if _, bytes := held(); bytes > archiveBytes || bytes != a.bytes {
			t.Fatalf("%d bytes are held, counted as %d", bytes, a.bytes)
		}
	}
	if flights, _ := held(); flights != archiveBytes>>20 {
		t.Errorf("%d flights are held", flights)
	}
}

// In a batch of several commands only those count that are wrong.
func TestStrikesAreCountedByCommand(t *testing.T) {
	for name, test := range map[string]struct {
		wrong   func(command int) bool
		strikes int
		kinds   []dems.ReportKind
	}{
		"the first":    {func(command int) bool { return command == 0 }, 0, []dems.ReportKind{1}},
		"the last two": {func(command int) bool { return command >= 3 }, 2, []dems.ReportKind{1, 1}},
		"all":          {func(int) bool { return true }, 5, []dems.ReportKind{1, 1, 2}},
		"every other":  {func(command int) bool { return command%2 == 0 }, 1, []dems.ReportKind{1, 1, 1}},
		"three, right": {func(command int) bool { return command <= 2 }, 0, []dems.ReportKind{1, 1, 2}},
	} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				old := h.w.suspendLeadership()
				time.Sleep(2 * pollInterval)
				var results []<-chan outcome
				for i := range 5 {
					results = append(results, h.background(addEvent(i, 5)))
					synctest.Wait()
				}
				h.w.tell(h.node(2), lies{results: func(command int, result *dems.Result) {
					if test.wrong(command) {
						result.Event.Capacity++
					}
				}})
				h.w.elect(old)
				for _, result := range results {
					h.wantView(h.await(result, 3*time.Second), 5, 0)
				}
				var kinds []dems.ReportKind
				for _, report := range h.reports() {
					kinds = append(kinds, report.Kind)
				}
				equal(t, test.kinds, kinds)
				equal(t, test.strikes, h.core.judge.strikesOf("n2", 1))
			}, func(c *Config) { c.BatchesInFlight = 1 })
		})
	}
}

// Wrong reads are strikes, and the read is ordered through the log, where everybody votes on it.
func TestWrongReadsAreStrikes(t *testing.T) {
	for wrong := 1; wrong <= 3; wrong++ {
		ready(t, 3, func(h *harness) {
			h.must(addEvent(1, 5), 0)
			before := h.w.length()
			h.slowAnswers()
			h.w.tell(h.node(wrong), lies{results: alterCapacity(1), answer: func(query *dems.Query, answer *dems.Answer) {
				answer.Result = dems.AppendResults(nil, []dems.Result{{Event: dems.EventView{Key: testEvent(1), Capacity: 9}}})
			}})
			var indexes []uint64
			for i := range 3 {
				h.wantView(h.must(getEvent(1), time.Millisecond), 5, 0)
				h.wantStrikes(wrong, i+1, "suspected")
				indexes = append(indexes, uint64(before+1+i))
			}
			told := h.reports()
			if len(told) != 3 || told[0].Kind != dems.WrongAnswerReport || told[1].Kind != dems.WrongAnswerReport {
				t.Fatalf("got %+v", told)
			}
			// The accusation names what the first two reads left in the log.
			if told[2].Kind != dems.AccusationReport || told[2].Strikes != 3 {
				t.Fatalf("got %+v", told)
			}
			equal(t, indexes[:2], told[2].Indexes)
			if ordered, _ := h.applied(getEvent(1)); ordered != 3 {
				t.Errorf("the read was ordered %d times", ordered)
			}
			if !strings.Contains(told[2].Expected, "capacity 5") || !strings.Contains(told[2].Answered, "capacity 9") {
				t.Errorf("expected %q, answered %q", told[2].Expected, told[2].Answered)
			}
		})
	}
}

// What comes after the decision is compared, too.
func TestLateAnswersAreJudged(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		var wrong atomic.Bool
		h.slowAnswers()
		h.w.tell(h.node(3), lies{answer: func(_ *dems.Query, answer *dems.Answer) {
			time.Sleep(50 * time.Millisecond)
			if wrong.Load() {
				answer.Result = nil
			}
		}})
		for i := range 3 {
			wrong.Store(true)
			h.must(getEvent(1), time.Millisecond)
			time.Sleep(60 * time.Millisecond)
			h.wantStrikes(3, 1, "suspected")
			wrong.Store(false)
			h.must(getEvent(1), time.Millisecond)
			time.Sleep(60 * time.Millisecond)
			h.wantStrikes(3, 0, "healthy")
			if told := h.reports(); len(told) != i+1 {
				t.Errorf("got %+v", told)
			}
		}
	})
}

// A node that is still busy with a read when the next ones are decided is asked for them all the same: else one that is wrong and
// slow would be noticed once and no more.
func TestSlowNodeIsAskedForWhatIsDecided(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.slowAnswers()
		h.w.tell(h.node(3), lies{answer: func(_ *dems.Query, answer *dems.Answer) {
			time.Sleep(50 * time.Millisecond)
			answer.Result = nil
		}})
		for range 3 {
			h.must(getEvent(1), time.Millisecond)
		}
		time.Sleep(200 * time.Millisecond)
		h.wantStrikes(3, 3, "suspected")
	})
}

// One read at a time is ordered because of one node, however many it answers wrongly.
func TestProbesAreLimited(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.slowAnswers()
		h.w.tell(h.node(3), lies{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Result = nil }})
		slow := h.node(1).lies.answer
		h.w.tell(h.node(1), lies{answer: slow, propose: func(ctx context.Context, entry []byte, next proposal) (dems.BatchReply, error) {
			time.Sleep(200 * time.Millisecond)
			return next(ctx, entry)
		}})
		for range 100 {
			h.must(getEvent(1), time.Millisecond)
		}
		time.Sleep(time.Second)
		ordered, _ := h.applied(getEvent(1))
		if ordered != 1 {
			t.Errorf("ordered %d times", ordered)
		}
		equal(t, 100, h.core.judge.strikesOf("n3", 1)) // the right vote on the probe excuses nothing
	})
}

// Late is never wrong, and neither is ahead.
func TestOtherVersionsAreNotWrong(t *testing.T) {
	for name, by := range map[string]int64{"late": -1, "ahead": 1 << 40} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.must(addEvent(1, 5), 0)
				h.w.tell(h.node(3), lies{answer: func(_ *dems.Query, answer *dems.Answer) {
					answer.Version, answer.Result = uint64(int64(answer.Version)+by), nil
				}})
				for range 5 {
					h.must(getEvent(1), 0)
				}
				h.wantStrikes(3, 0, "healthy")
				equal(t, 0, len(h.reports()))
			})
		})
	}
}

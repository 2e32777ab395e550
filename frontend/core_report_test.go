package frontend

import (
	"context"
	"log/slog"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

// Equal results are not enough: nodes whose states differ will differ in what follows.
func TestStatesWithoutAMajority(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.tell(h.node(1), lies{vote: func(vote *dems.Vote) { vote.State[1]++ }})
		h.w.tell(h.node(2), lies{vote: func(vote *dems.Vote) { vote.State[2]++ }})
		h.fails(addEvent(2, 5), dems.NoMajority, 0)
		told := h.reports()
		if len(told) != 1 || told[0].Kind != dems.NoMajorityReport || told[0].Node != "" || told[0].Answered == "" {
			t.Errorf("got %+v", told)
		}
		equal(t, []uint64{uint64(h.w.length())}, told[0].Indexes)
		for node := 1; node <= 3; node++ {
			h.wantStrikes(node, 0, "healthy") // nobody knows who is wrong
		}
		h.w.tell(h.node(2), lies{})
		h.must(addEvent(3, 5), 0)
	})
}

func TestNoMajorityIsReportedOnceASecond(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(2), lies{results: alterCapacity(1)})
		h.w.tell(h.node(3), lies{results: alterCapacity(2)})
		for i := range 31 {
			h.fails(addEvent(i, 5), dems.NoMajority, patience)
			time.Sleep(100 * time.Millisecond)
		}
		if told := h.reports(); len(told) != 4 {
			t.Errorf("%d reports in 3 seconds", len(told))
		}
		if noted := counted(t, h.core.proposer.metrics.noMajority); noted != 31 {
			t.Errorf("%d counted", noted)
		}
	})
}

// What a nonvoter says is neither counted nor judged.
func TestNonvotersAreNotJudged(t *testing.T) {
	ready(t, 4, func(h *harness) {
		h.w.change(func() {
			h.w.members[3].Suffrage = dems.Nonvoter
			h.w.configuration++
		})
		time.Sleep(2 * pollInterval)
		h.w.tell(h.node(4), lies{results: alterCapacity(1), vote: stateLie})
		for i := range 5 {
			if reply := h.must(addEvent(i, 5), 0); reply.Asked != 3 || reply.Agreeing > 3 {
				t.Errorf("got %+v", reply)
			}
		}
		equal(t, 0, len(h.reports()))
	})
}

// A node that is there in another life than the configuration names has no say, and takes no blame: not on writes, not on
// reads.
func TestOtherLivesDoNotCount(t *testing.T) {
	for name, life := range map[string]uint64{"earlier": 1, "later": 3, "none": 0} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				h.w.change(func() {
					h.w.members[2].Incarnation = 2
					h.w.configuration++
					h.node(3).life = life
				})
				time.Sleep(2 * pollInterval)
				h.slowAnswers()
				h.w.tell(h.node(3), lies{results: alterCapacity(1), answer: func(_ *dems.Query, answer *dems.Answer) { answer.Result = nil }})
				for i := range 5 {
					h.must(addEvent(i, 5), 0)
					h.must(getEvent(i), time.Millisecond)
				}
				equal(t, 0, len(h.reports()))
				h.w.tell(h.node(3), lies{})
				h.w.set(h.node(2), dead)
				h.fails(addEvent(6, 5), dems.Indeterminate, requestDeadline)
				h.fails(getEvent(1), dems.Unavailable, requestDeadline)
				h.w.change(func() { h.node(3).life = 2 })
				h.w.set(h.node(2), up)
				time.Sleep(2 * pollInterval)
				h.w.set(h.node(2), dead)
				h.must(addEvent(7, 5), doubt)
				h.must(getEvent(7), time.Millisecond)
			})
		})
	}
}

// A new life begins without strikes, and what is still on its way from the old one is not counted.
func TestNewLifeHasNoStrikes(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.tell(h.node(3), lies{results: alterCapacity(1)})
		h.must(addEvent(1, 5), 0)
		h.must(addEvent(2, 5), 0)
		h.wantStrikes(3, 2, "suspected")
		h.w.change(func() {
			h.w.members[2].Incarnation, h.node(3).life = 2, 2
			h.w.configuration++
		})
		time.Sleep(2 * pollInterval)
		h.wantStrikes(3, 0, "healthy")
		h.must(addEvent(3, 5), 0)
		h.wantStrikes(3, 1, "suspected")
		last := h.reports()[2]
		if last.Kind != dems.WrongAnswerReport || last.Incarnation != 2 || last.Strikes != 1 {
			t.Errorf("got %+v", last)
		}
	})
}

func TestStatesOfNodes(t *testing.T) {
	for name, test := range map[string]struct {
		standing dems.Condition
		saying   int // nodes that say so
		change   func(n *fakeNode)
		want     string
	}{
		"correct":                   {dems.Correct, 3, nil, "healthy"},
		"convicted":                 {dems.Convicted, 3, nil, "incorrect"},
		"quarantined":               {dems.Quarantined, 2, nil, "incorrect"},
		"expelled":                  {dems.Expelled, 2, nil, "replacing"},
		"rejoining":                 {dems.Rejoining, 3, nil, "replacing"},
		"rejoining, not ready":      {dems.Rejoining, 3, func(n *fakeNode) { n.unready = true }, "replacing"},
		"expelled and gone":         {dems.Expelled, 2, func(n *fakeNode) { n.reach = dead }, "replacing"},
		"not ready":                 {dems.Correct, 3, func(n *fakeNode) { n.unready = true }, "down"},
		"convicted by one's word":   {dems.Convicted, 1, nil, "healthy"},
		"one who says so ten times": {dems.Convicted, 10, nil, "healthy"},
	} {
		t.Run(name, func(t *testing.T) {
			ready(t, 3, func(h *harness) {
				standing := dems.Standing{Node: "n3", Incarnation: 1, Condition: test.standing}
				for i, n := range h.w.nodes[:min(test.saying, 3)] {
					times := 1
					if test.saying > 3 {
						if times = test.saying; i > 0 {
							break
						}
					}
					h.w.tell(n, lies{status: func(status *dems.NodeStatus) {
						standing := standing
						standing.Since = uint64(i) // it does not matter
						status.Standings = slices.Repeat([]dems.Standing{standing}, times)
					}})
				}
				if test.change != nil {
					h.w.change(func() { test.change(h.node(3)) })
				}
				time.Sleep(2 * pollInterval)
				h.wantStrikes(3, 0, test.want)
				h.wantStrikes(1, 0, "healthy")
			})
		})
	}
}

// Reports wait for a node that hangs, but not without limit, and others do not wait for it.
func TestReportsToANodeThatHangs(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.w.set(h.node(2), hanging)
		for strikes := 1; strikes <= 3*reportLimit; strikes++ {
			h.core.reports.add(dems.Report{Kind: dems.WrongAnswerReport, Node: "n3", Incarnation: 1, Strikes: strikes})
			synctest.Wait()
		}
		h.core.reports.add(dems.Report{Kind: dems.AccusationReport, Node: "n3", Incarnation: 1, Strikes: 3})
		synctest.Wait()
		h.w.mu.Lock()
		if told := len(h.node(1).reports); told != 3*reportLimit+1 {
			t.Errorf("n1 was told %d times", told)
		}
		h.w.mu.Unlock()
		h.w.set(h.node(2), up)
		synctest.Wait()
		h.w.mu.Lock()
		defer h.w.mu.Unlock()
		told := h.node(2).reports
		if len(told) != reportLimit+1 || told[reportLimit].Kind != dems.AccusationReport {
			t.Errorf("n2 was told %d times", len(told))
		}
	})
}

// An accusation is not what gives way.
func TestReportsThatSayLessGiveWay(t *testing.T) {
	l := &reportLane{}
	l.add(dems.Report{Kind: dems.AccusationReport, Node: "n2", Incarnation: 1})
	for strikes := range 2 * reportLimit {
		l.add(dems.Report{Kind: dems.WrongAnswerReport, Node: "n2", Incarnation: 1, Strikes: strikes})
	}
	if len(l.waiting) != reportLimit || l.waiting[0].Kind != dems.AccusationReport {
		t.Errorf("%d wait, the first is %+v", len(l.waiting), l.waiting[0])
	}
}

// Errands are limited, and start neither before run nor after it.
func TestErrands(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		e := newErrands(2)
		if e.start(func(context.Context) {}) {
			t.Error("started before run")
		}
		ctx, stop := context.WithCancel(context.Background())
		ended := make(chan error, 1)
		go func() { ended <- e.run(ctx) }()
		synctest.Wait()
		for i, want := range []bool{true, true, false} {
			if got := e.start(func(ctx context.Context) { <-ctx.Done() }); got != want {
				t.Errorf("errand %d: %v", i, got)
			}
		}
		stop()
		if err := <-ended; err != nil || e.start(func(context.Context) {}) {
			t.Errorf("after the end: %v", err)
		}
	})
}

// A probe stands alone in its batch, wherever it stands in the queue.
func TestProbesTravelAlone(t *testing.T) {
	q := &queue{filled: make(chan struct{}, 1)}
	probed := &node{}
	for _, probing := range []*node{nil, nil, probed, nil, probed, probed, nil} {
		q.add(&pending{probing: probing})
	}
	var sizes []int
	for {
		taken := q.take(dems.MaxBatchCommands)
		if taken == nil {
			break
		}
		sizes = append(sizes, len(taken))
		for _, waiter := range taken {
			if waiter.probing != nil && len(taken) > 1 {
				t.Error("a probe has company")
			}
		}
	}
	equal(t, []int{2, 1, 1, 1, 1, 1}, sizes)
	equal(t, 0, q.probes)
	waiter := &pending{probing: probed}
	q.putBack([]*pending{waiter})
	equal(t, 1, q.probes)
	q.remove(waiter)
	equal(t, 0, q.probes)
}

// A judge without strikes is not even asked.
func TestNoStrikesCostNothing(t *testing.T) {
	j := newJudge(nil, nil, &Config{Logger: slog.New(slog.DiscardHandler)}, newCoreMetrics(nil))
	j.mu.Lock()
	defer j.mu.Unlock()
	if cost := testing.AllocsPerRun(100, func() { j.right("n1", 1) }); cost != 0 {
		t.Errorf("%v allocations", cost)
	}
}

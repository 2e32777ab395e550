package frontend

import (
	"context"
	"math/rand/v2"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	dto "github.com/prometheus/client_model/go"

	"dems"
)

// counted returns the value of a counter.
func counted(t *testing.T, counter prometheus.Counter) int {
	t.Helper()
	var metric dto.Metric
	if err := counter.Write(&metric); err != nil {
		t.Fatal(err)
	}
	return int(metric.GetCounter().GetValue())
}

func TestReadIsAMajoritysAnswer(t *testing.T) {
	ready(t, 3, func(h *harness) {
		added := h.must(addEvent(1, 5), 0)
		booked := h.must(book(1, 1), 0)
		view := h.must(getEvent(1), 0)
		h.wantView(view, 5, 1)
		if view.Asked != 3 || view.Agreeing < 2 || view.Sequence < booked.Sequence || view.Sequence > uint64(h.w.length()) {
			t.Errorf("got %+v", view)
		}
		list := h.must(listEvents(), 0)
		equal(t, []dems.EventView{{Key: testEvent(1), Capacity: 5, Booked: 1}}, list.Result.Events)
		plan := h.must(schedule(1), 0)
		equal(t, []dems.EventKey{testEvent(1)}, plan.Result.Bookings)
		empty := h.must(schedule(2), 0)
		if len(empty.Result.Bookings) != 0 || empty.Sequence < added.Sequence {
			t.Errorf("got %+v", empty)
		}
		missing, err := h.do(getEvent(2))
		if err != nil || missing.Result.Code != dems.EventNotFound {
			t.Errorf("got %+v, %v", missing, err)
		}
		forbidden := listEvents()
		forbidden.By = testCustomer(1)
		refused, err := h.do(forbidden)
		if err != nil || refused.Result.Code != dems.ForbiddenRole {
			t.Errorf("got %+v, %v", refused, err)
		}
		if length := h.w.length(); length != int(booked.Sequence) {
			t.Errorf("reads were ordered: the log has %d entries", length)
		}
	})
}

func TestReadWithOneNodeNotRight(t *testing.T) {
	for name, test := range map[string]struct {
		lie    lies
		change func(w *world, n *fakeNode)
	}{
		"dead":    {change: func(w *world, n *fakeNode) { w.set(n, dead) }},
		"hanging": {change: func(w *world, n *fakeNode) { w.set(n, hanging) }},
		"cut":     {change: func(w *world, n *fakeNode) { w.set(n, cut) }},
		"late":    {change: func(w *world, n *fakeNode) { w.setLate(n, true) }},
		"unready": {change: func(w *world, n *fakeNode) { w.change(func() { n.unready = true }) }},
		"wrong answer": {lie: lies{answer: func(_ *dems.Query, answer *dems.Answer) {
			answer.Result = dems.AppendResults(nil, []dems.Result{{Event: dems.EventView{Key: testEvent(1), Capacity: 9}}})
		}}},
		"rubbish":      {lie: lies{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Result = []byte("rubbish") }}},
		"no answer":    {lie: lies{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Result = nil }}},
		"huge version": {lie: lies{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Version = 1 << 62 }}},
		"low version":  {lie: lies{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Version = 0 }}},
		"huge version and wrong": {lie: lies{answer: func(_ *dems.Query, answer *dems.Answer) {
			answer.Version, answer.Result = 1<<62, nil
		}}},
		"huge index":    {lie: lies{query: func(reply *dems.QueryReply) { reply.Applied = 1 << 62 }}},
		"low index":     {lie: lies{query: func(reply *dems.QueryReply) { reply.Applied = 0 }}},
		"few answers":   {lie: lies{query: func(reply *dems.QueryReply) { reply.Answers = reply.Answers[1:] }}},
		"many answers":  {lie: lies{query: func(reply *dems.QueryReply) { reply.Answers = append(reply.Answers, reply.Answers...) }}},
		"another node":  {lie: lies{query: func(reply *dems.QueryReply) { reply.Node = "n9" }}},
		"refuses":       {lie: lies{refuse: func(*dems.QueryBatch) error { return &dems.ReplicaError{Kind: dems.BadRequest} }}},
		"unknown error": {lie: lies{refuse: func(*dems.QueryBatch) error { return context.Canceled }}},
	} {
		for number := 1; number <= 3; number++ { // whoever is asked first
			t.Run(name, func(t *testing.T) {
				ready(t, 3, func(h *harness) {
					h.must(addEvent(1, 5), 0)
					if number == 1 {
						h.w.elect(h.node(2))
						time.Sleep(2 * pollInterval) // until the front end knows
					}
					h.w.tell(h.node(number), test.lie)
					if test.change != nil {
						test.change(h.w, h.node(number))
					}
					for i := range 20 {
						h.must(book(i, 1+i/5), 0)
						view := h.must(getEvent(1+i/5), 0)
						h.wantView(view, 5, uint32(1+i%5))
						if view.Sequence > uint64(h.w.length()) || view.Sequence == 0 {
							t.Errorf("sequence %d of %d", view.Sequence, h.w.length())
						}
						if i%5 == 4 {
							h.must(addEvent(2+i/5, 5), 0)
						}
					}
				})
			})
		}
	}
}

// With a node dead, the answer needs a node that is late: it is asked again and waited for.
func TestLateNodeIsAskedAgain(t *testing.T) {
	ready(t, 3, func(h *harness) {
		fresh := h.start("fe2") // that has acknowledged nothing since
		h.awaitReady(fresh)
		h.w.setLate(h.node(3), true)
		h.must(addEvent(1, 5), 0)
		h.w.set(h.node(2), dead)
		result := make(chan Reply, 1)
		started := time.Now()
		go func() { result <- h.mustAt(fresh, getEvent(1), 100*time.Millisecond) }()
		time.Sleep(100 * time.Millisecond)
		h.w.setLate(h.node(3), false)
		reply := <-result
		h.wantView(reply, 5, 0)
		h.wantVotes(reply, 2, 3)
		if took := time.Since(started); took < 100*time.Millisecond {
			t.Errorf("answered after %v, before there was a majority", took)
		}
		if rounds := counted(t, fresh.reader.metrics.rounds); rounds == 0 {
			t.Error("nobody was asked again")
		}
	})
}

// The same while another one claims a version that never comes: the late one is asked for one that does.
func TestLateNodeAndHugeVersion(t *testing.T) {
	ready(t, 3, func(h *harness) {
		fresh := h.start("fe2")
		h.awaitReady(fresh)
		h.w.setLate(h.node(3), true)
		h.must(addEvent(1, 5), 0)
		h.w.tell(h.node(1), lies{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Version = 1 << 62 }})
		result := make(chan Reply, 1)
		go func() { result <- h.mustAt(fresh, getEvent(1), 100*time.Millisecond) }()
		time.Sleep(100 * time.Millisecond)
		h.w.setLate(h.node(3), false)
		h.wantView(<-result, 5, 0)
	})
}

// A late node is asked again once for each version, whatever the others answer meanwhile.
func TestLateNodesAreAskedOnce(t *testing.T) {
	ready(t, 5, func(h *harness) {
		fresh := h.start("fe2")
		h.awaitReady(fresh)
		h.w.setLate(h.node(3), true)
		h.w.setLate(h.node(4), true)
		h.must(addEvent(1, 5), 0)
		h.w.set(h.node(5), hanging)
		queries := func() (asked int) {
			h.w.change(func() { asked = h.node(3).queries + h.node(4).queries })
			return asked
		}
		before := queries()
		result := make(chan Reply, 1)
		go func() { result <- h.mustAt(fresh, getEvent(1), 100*time.Millisecond) }()
		time.Sleep(100 * time.Millisecond)
		h.w.setLate(h.node(3), false)
		h.w.setLate(h.node(4), false)
		h.wantView(<-result, 5, 0)
		if asked := queries() - before; asked > 4 {
			t.Errorf("two late nodes were asked %d times", asked)
		}
	})
}

// What a front end has acknowledged it does not take back, even where a wrong node answers from its past and a late one
// from the same past: the late one has to catch up before it is counted.
func TestPastAnswersAreNotAMajority(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		past := h.node(2).machine.Query(&dems.Query{Kind: dems.OperationQuery, Command: getEvent(1)})
		h.w.setLate(h.node(3), true)
		h.must(book(1, 1), 0)
		h.w.tell(h.node(2), lies{answer: func(_ *dems.Query, answer *dems.Answer) { *answer = past }})
		h.wantView(h.must(getEvent(1), readPatience), 5, 1)
		// The same for what it only read: this one acknowledged nothing, but it has read what is new.
		h.w.tell(h.node(2), lies{})
		second := h.start("fe2")
		h.awaitReady(second)
		h.w.setLate(h.node(3), false)
		h.wantView(h.mustAt(second, getEvent(1), 0), 5, 1)
		h.w.setLate(h.node(3), true)
		h.must(book(2, 1), 0)
		h.wantView(h.mustAt(second, getEvent(1), 0), 5, 2)
		h.w.tell(h.node(2), lies{answer: func(_ *dems.Query, answer *dems.Answer) { *answer = past }})
		h.wantView(h.mustAt(second, getEvent(1), readPatience), 5, 2)
	})
}

// Claims of a version that never comes use up nothing: with many reads at once, nobody waits.
func TestHugeVersionsHoldUpNobody(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.tell(h.node(1), lies{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Version = 1 << 62 }})
		ctx, cancel := context.WithTimeout(context.Background(), requestDeadline) // the requests end, it does not
		defer cancel()
		started := time.Now()
		for range 10 {
			var reading sync.WaitGroup
			for range 2 * meetLimit {
				reading.Go(func() {
					reply, err := h.core.Read(ctx, getEvent(1))
					if err != nil || reply.Result.Event.Capacity != 5 {
						t.Errorf("got %+v, %v", reply, err)
					}
				})
			}
			reading.Wait()
		}
		if took := time.Since(started); took > 0 {
			t.Errorf("took %v", took)
		}
		synctest.Wait()
		if waiting := len(h.core.reader.meets); waiting != 0 {
			t.Errorf("%d nodes are still being asked again", waiting)
		}
	})
}

func TestReadNeedsNoLeader(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.retire(h.node(1), hanging)
		for range 10 {
			h.wantView(h.must(getEvent(1), 0), 5, 0)
			time.Sleep(100 * time.Millisecond)
		}
	})
}

// Where versions never meet, the read is ordered through the log.
func TestReadIsOrderedWhereVersionsNeverMeet(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		for i, n := range h.w.nodes {
			h.w.tell(n, lies{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Version += uint64(i) }})
		}
		reply := h.must(getEvent(1), readPatience)
		h.wantView(reply, 5, 0)
		if reply.Sequence != uint64(h.w.length()) || counted(t, h.core.reader.metrics.ordered) != 1 {
			t.Errorf("the read was not ordered: %+v", reply)
		}
		// Nothing but the log can answer it now, and nobody leads: the read is unavailable, never indeterminate.
		h.w.suspendLeadership()
		h.fails(getEvent(1), dems.Unavailable, requestDeadline)
		h.w.elect(h.node(1))
		for _, n := range h.w.nodes {
			h.w.tell(n, lies{})
		}
		h.w.set(h.node(2), hanging)
		h.w.set(h.node(3), hanging)
		h.fails(getEvent(1), dems.Unavailable, requestDeadline)
	})
}

// Data that changes all the time: the reads get through, one way or the other.
func TestReadOfMovingData(t *testing.T) {
	ready(t, 5, func(h *harness) {
		h.must(addEvent(1, 1000), 0)
		h.w.set(h.node(5), hanging)
		ctx, stop := context.WithCancel(context.Background())
		wrote := make(chan int)
		go func() {
			number := 0
			for ; ctx.Err() == nil; number++ {
				n := h.w.nodes[number%4]
				h.w.setLate(n, true)
				h.must(book(number, 1), time.Second)
				time.Sleep(time.Millisecond)
				h.w.setLate(n, false)
			}
			wrote <- number
		}()
		last := uint32(0)
		for range 200 {
			view := h.must(getEvent(1), readPatience+100*time.Millisecond)
			if view.Result.Event.Booked < last {
				t.Errorf("%d seats were booked, and then %d", last, view.Result.Event.Booked)
			}
			last = view.Result.Event.Booked
			time.Sleep(time.Millisecond)
		}
		stop()
		if number := uint32(<-wrote); last == 0 || last > number {
			t.Errorf("%d seats seen, %d booked", last, number)
		}
	})
}

// An acknowledged write is seen by every read after it, through whatever front end, whoever is late.
func TestReadAfterWriteThroughAnotherFrontEnd(t *testing.T) {
	for _, nodes := range []int{3, 5} {
		ready(t, nodes, func(h *harness) {
			h.must(addEvent(1, 1000), 0)
			random := rand.New(rand.NewPCG(7, 7))
			second := h.start("fe2")
			h.awaitReady(second)
			for i := range 100 {
				late := random.Perm(nodes)[:nodes/2]
				for _, number := range late {
					h.w.setLate(h.w.nodes[number], true)
				}
				h.must(book(i, 1), time.Second)
				if i%25 == 0 { // one that knows nothing at all
					second = h.start("fresh")
				}
				h.wantView(h.mustAt(second, getEvent(1), time.Second), 1000, uint32(i+1))
				for _, number := range late {
					h.w.setLate(h.w.nodes[number], false)
				}
			}
		})
	}
}

func TestUnreadyNodesAreAskedAgain(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.change(func() { h.node(2).unready, h.node(3).unready = true, true })
		result := h.background(getEvent(1))
		time.Sleep(200 * time.Millisecond)
		h.w.change(func() { h.node(2).unready = false })
		h.wantView(h.await(result, 300*time.Millisecond), 5, 0)
		if counted(t, h.core.reader.metrics.ordered) != 0 {
			t.Error("the read was ordered")
		}
	})
}

// A node refuses answers that are too large together; they are asked for in smaller requests.
func TestAnswersTooLargeTogether(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		for _, n := range h.w.nodes {
			h.w.tell(n, lies{refuse: func(batch *dems.QueryBatch) error {
				if len(batch.Queries) > 3 {
					return &dems.ReplicaError{Kind: dems.BadRequest}
				}
				return nil
			}})
		}
		var results []<-chan outcome
		for range 100 {
			results = append(results, h.background(getEvent(1)))
		}
		for _, result := range results {
			h.wantView(h.await(result, 0), 5, 0)
		}
	})
}

// A node that hangs has its lane overflow. Nobody notices, and when it is back it is asked again.
func TestLaneOverflows(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.set(h.node(3), hanging)
		for range laneLimit + 2*dems.MaxQueries {
			if took := h.must(getEvent(1), 0); took.Agreeing != 2 {
				t.Fatalf("got %+v", took)
			}
		}
		if counted(t, h.core.reader.metrics.laneFull) == 0 {
			t.Error("the lane did not overflow")
		}
		h.w.set(h.node(3), up)
		h.w.set(h.node(2), hanging)
		time.Sleep(laneTimeout)
		h.wantView(h.must(getEvent(1), 0), 5, 0)
	})
}

func TestReadsGivenUpKeepNothing(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.must(addEvent(1, 5), 0)
		h.w.set(h.node(2), hanging)
		h.w.set(h.node(3), hanging)
		ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
		defer cancel()
		if _, err := h.core.Read(ctx, getEvent(1)); dems.CodeOf(err) != dems.Unavailable {
			t.Errorf("got %v", err)
		}
		for size, kept := range map[int]bool{keptBytes: true, keptBytes + 1: false} {
			q := &reading{wake: make(chan struct{}, 1)}
			view := h.core.members.view()
			q.answer(nodeAnswer{node: view.voters[0]})
			q.decide(&dems.Answer{Result: make([]byte, size)})
			q.answer(nodeAnswer{node: view.voters[1]})
			if len(q.answers) != 0 || (q.right != nil) != kept {
				t.Errorf("a reading that is over keeps answers; of %d bytes: %t", size, q.right != nil)
			}
		}
	})
}

// Answers that a majority gives and nobody can read are a fault of the nodes, not of the client.
func TestMajorityAnswersRubbish(t *testing.T) {
	ready(t, 3, func(h *harness) {
		for _, n := range h.w.nodes {
			h.w.tell(n, lies{answer: func(_ *dems.Query, answer *dems.Answer) { answer.Result = []byte("rubbish") }})
		}
		h.fails(getEvent(1), dems.Internal, 0)
		ctx, cancel := context.WithTimeout(context.Background(), time.Second)
		defer cancel()
		if _, err := h.core.Registry(ctx); dems.CodeOf(err) != dems.Internal {
			t.Errorf("got %v", err)
		}
	})
}

func TestRegistryIsAMajoritys(t *testing.T) {
	ready(t, 3, func(h *harness) {
		h.awaitReady(h.start("fe2"))
		ctx, cancel := context.WithTimeout(context.Background(), requestDeadline)
		defer cancel()
		registry, err := h.core.Registry(ctx)
		if err != nil {
			t.Fatal(err)
		}
		equal(t, dems.DefaultCities(), registry.Cities)
		if len(registry.Nodes) != 3 || len(registry.FrontEnds) != 2 || registry.FrontEnds[1].Address != "http://fe2" {
			t.Errorf("got %+v", registry)
		}
		h.w.set(h.node(1), hanging)
		h.w.set(h.node(2), hanging)
		if _, err := h.core.Registry(ctx); dems.CodeOf(err) != dems.Unavailable {
			t.Errorf("got %v", err)
		}
	})
}

package node

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"dems"

	"github.com/google/go-cmp/cmp"
)

// wires are a network that only notes what is done to it.
type wires struct {
	impaired []dems.Fault
	healed   int
	refuse   error
}

func (w *wires) Impair(_ context.Context, fault dems.Fault) error {
	w.impaired = append(w.impaired, fault)
	return w.refuse
}

func (w *wires) Heal() { w.healed++ }

// started returns faults of which one is injected.
func started(t *testing.T, fault dems.Fault) *faults {
	t.Helper()
	f := newFaults(true, func(uint64) string { return "altered" }, new(wires))
	if _, err := f.inject(t.Context(), fault); err != nil {
		t.Fatal(err)
	}
	return f
}

// cast returns a ballot of a node with results.
func cast(node dems.NodeID, results ...dems.Result) ballot {
	encoded := dems.AppendResults(nil, results)
	return ballot{results: encoded, vote: dems.Vote{
		Node: node, Incarnation: 1, Index: 9, Session: 7, Batch: 3, Results: dems.DigestOf(encoded), State: dems.Digest{1},
	}}
}

// booked returns the result of a booking that succeeded.
func booked(sequence uint64) dems.Result {
	customer, _ := dems.ParseUserID("MTLC0001")
	event, _ := dems.ParseEventID("MTLA100519")
	key := dems.EventKey{Type: dems.Seminar, ID: event}
	return dems.Result{Outcome: dems.Booked, Sequence: sequence, Booking: key, Customer: customer, Replayed: true}
}

// decode returns a ballot's results, which must have its digest.
func decode(t *testing.T, b ballot) []dems.Result {
	t.Helper()
	results, err := dems.DecodeResults(b.results)
	if err != nil || dems.DigestOf(b.results) != b.vote.Results {
		t.Fatalf("results %x with digest %s: %v", b.results, b.vote.Results, err)
	}
	return results
}

func TestOnlyNodesStartedForDrillsMisbehave(t *testing.T) {
	f := newFaults(false, nil, nil)
	for kind := dems.NoFault; kind <= dems.Latency; kind++ {
		fault := dems.Fault{Kind: kind}
		if kind == dems.Slow || kind == dems.Latency {
			fault.Delay = time.Second
		}
		if kind == dems.Partition {
			fault.Lasts = time.Second
		}
		if _, err := f.inject(t.Context(), fault); !isBadRequest(err) {
			t.Errorf("%s: %v", kind, err)
		}
	}
	b, reply := cast("n1", booked(1)), dems.QueryReply{}
	f.spoil(1, &b)
	f.spoilReply(nil, &reply)
	if decode(t, b)[0].Outcome != dems.Booked || f.hold(t.Context()) != nil || f.holdMessage(t.Context()) != nil {
		t.Error("it misbehaves")
	}
}

func isBadRequest(err error) bool {
	refused, ok := errors.AsType[*dems.ReplicaError](err)
	return ok && refused.Kind == dems.BadRequest && refused.Err != nil
}

func TestMalformedFaultsAreRefused(t *testing.T) {
	f := newFaults(true, func(uint64) string { t.Error("the state was altered"); return "" }, new(wires))
	for _, fault := range []dems.Fault{
		{Kind: dems.Latency + 1}, {Kind: 255}, {Kind: dems.Mute, Requests: -1}, {Kind: dems.WrongResults, Requests: dems.MaxFaultRequests + 1},
		{Kind: dems.Slow}, {Kind: dems.Slow, Delay: dems.MaxFaultDelay + 1}, {Kind: dems.Mute, Delay: 1},
		{Kind: dems.WrongState, Requests: 3},
	} {
		if _, err := f.inject(t.Context(), fault); !isBadRequest(err) || len(f.active) != 0 {
			t.Errorf("%+v: %v, %d active", fault, err, len(f.active))
		}
	}
}

func TestWrongResultsAreWrongAndNothingElse(t *testing.T) {
	f := started(t, dems.Fault{Kind: dems.WrongResults})
	codes := append(dems.Codes(), dems.OK)
	for _, node := range []dems.NodeID{"", "n1", "n2", "n3", "n4", "n5"} {
		for _, code := range codes {
			right := dems.Result{Code: code, Sequence: 9}
			b := cast(node, booked(9), right)
			before := b
			f.spoil(2, &b)
			results := decode(t, b)
			if len(results) != 2 || results[0].Code == dems.OK || results[1].Code == code || results[1].Code == dems.OK {
				t.Fatalf("%s makes %+v of %s", node, results, code)
			}
			if results[0].Sequence != 9 || results[1].Sequence != 9 || results[0].Outcome != dems.NoOutcome {
				t.Fatalf("%+v", results)
			}
			if b.vote.Results == before.vote.Results || bytes.Equal(b.results, before.results) {
				t.Fatal("the digest is the same")
			}
			b.vote.Results = before.vote.Results
			if b.vote != before.vote {
				t.Fatalf("%+v became %+v", before.vote, b.vote)
			}
			decode(t, before) // who holds the right results still does
		}
	}
}

// TestTwoWrongNodesAreNoMajority is why nodes are wrong in different ways.
func TestTwoWrongNodesAreNoMajority(t *testing.T) {
	f := started(t, dems.Fault{Kind: dems.WrongResults})
	for _, code := range append(dems.Codes(), dems.OK) {
		seen := make(map[dems.Digest]dems.NodeID)
		for _, node := range []dems.NodeID{"n1", "n2", "n3", "n4", "n5"} {
			b := cast(node, dems.Result{Code: code, Sequence: 1})
			f.spoil(1, &b)
			if other, found := seen[b.vote.Results]; found {
				t.Errorf("%s: %s and %s agree", code, other, node)
			}
			seen[b.vote.Results] = node
		}
	}
}

func TestResultsThatCannotBeMadeWrong(t *testing.T) {
	f := started(t, dems.Fault{Kind: dems.WrongResults, Requests: 1})
	for name, odd := range map[string]ballot{
		"no results": cast("n1"), "nil": {}, "nonsense": {results: []byte("nonsense"), vote: dems.Vote{Results: dems.Digest{1}}},
		"truncated": {results: cast("n1", booked(1)).results[:7]}, "a long count": {results: bytes.Repeat([]byte{255}, 20)},
	} {
		b := odd
		f.spoil(5, &b)
		if b.vote != odd.vote || !bytes.Equal(b.results, odd.results) {
			t.Errorf("%s: %+v became %+v", name, odd, b)
		}
	}
	for _, commands := range []int{0, -1} {
		b := cast("n1", booked(1))
		f.spoil(commands, &b)
		if decode(t, b)[0].Outcome != dems.Booked {
			t.Errorf("a batch of %d commands was made wrong", commands)
		}
	}
	b := cast("n1", booked(1))
	f.spoil(1, &b) // nothing was used up so far
	if decode(t, b)[0].Code == dems.OK {
		t.Error("the result is right")
	}
}

func TestBatchesAndReadsShareTheNumberOfRequests(t *testing.T) {
	f := started(t, dems.Fault{Kind: dems.WrongResults, Requests: 4})
	wrongOf := func(results []dems.Result) (count int) {
		for i := range results {
			if results[i].Code != dems.OK {
				count++
			}
		}
		return count
	}
	queries := []dems.Query{
		{Kind: dems.OperationQuery}, {Kind: dems.RegistryQuery}, {Kind: dems.IncidentsQuery}, {Kind: dems.OperationQuery},
		{Kind: dems.OperationQuery},
	}
	right := dems.AppendResults(nil, []dems.Result{booked(0)})
	ask := func() (got []dems.Result) {
		reply := dems.QueryReply{Node: "n1", Incarnation: 2, Applied: 5}
		for i := range queries {
			reply.Answers = append(reply.Answers, dems.Answer{Version: uint64(i), Result: right})
		}
		reply.Answers[3].Result = []byte("nonsense")
		f.spoilReply(queries, &reply)
		for i, answer := range reply.Answers {
			spoilt := queries[i].Kind == dems.OperationQuery && i != 3
			if answer.Version != uint64(i) || !spoilt && i != 3 && !bytes.Equal(answer.Result, right) {
				t.Errorf("answer %d became %+v", i, answer)
			}
			if spoilt {
				results, err := dems.DecodeResults(answer.Result)
				if err != nil || len(results) != 1 {
					t.Fatalf("answer %d: %v", i, err)
				}
				got = append(got, results[0])
			}
		}
		if reply.Node != "n1" || reply.Incarnation != 2 || reply.Applied != 5 {
			t.Errorf("%+v", reply)
		}
		return got
	}
	b := cast("n1", booked(1))
	f.spoil(1, &b)
	if got := wrongOf(decode(t, b)); got != 1 {
		t.Fatalf("%d of the first command's results are wrong", got)
	}
	if got := wrongOf(ask()); got != 2 {
		t.Fatalf("%d of two reads are wrong", got)
	}
	b = cast("n1", booked(1), booked(2), booked(3))
	f.spoil(3, &b)
	if results := decode(t, b); wrongOf(results) != 1 || results[0].Code == dems.OK {
		t.Fatalf("one is left, but the results are %+v", results)
	}
	b = cast("n1", booked(1))
	f.spoil(1, &b)
	if wrongOf(decode(t, b)) != 0 || wrongOf(ask()) != 0 || f.spoils() {
		t.Fatal("still wrong after four requests")
	}
	f.spoilReply(queries, &dems.QueryReply{Answers: make([]dems.Answer, 1)}) // fewer answers than queries
}

func TestNumberOfRequestsHoldsUnderConcurrency(t *testing.T) {
	f := started(t, dems.Fault{Kind: dems.WrongResults, Requests: 50})
	var mu sync.Mutex
	spoilt := 0
	var group sync.WaitGroup
	for range 20 {
		group.Go(func() {
			for range 5 {
				b := cast("n1", booked(1))
				f.spoil(1, &b)
				mu.Lock()
				if b.vote.Results != cast("n1", booked(1)).vote.Results {
					spoilt++
				}
				mu.Unlock()
			}
		})
	}
	group.Wait()
	if spoilt != 50 {
		t.Errorf("%d of 100 were wrong, want 50", spoilt)
	}
}

func TestFaultsEndAndReplaceTheirKind(t *testing.T) {
	f := started(t, dems.Fault{Kind: dems.WrongResults, Requests: 1})
	for _, fault := range []dems.Fault{
		{Kind: dems.Mute}, {Kind: dems.Slow, Delay: time.Second}, {Kind: dems.WrongResults}, {Kind: dems.WrongResults, Requests: 2},
	} {
		if _, err := f.inject(t.Context(), fault); err != nil {
			t.Fatal(err)
		}
	}
	if len(f.active) != 3 || f.active[dems.WrongResults].left != 2 || f.active[dems.Slow].delay != time.Second {
		t.Fatalf("%+v", f.active)
	}
	for range 2 { // ending nothing is no error
		if _, err := f.inject(t.Context(), dems.Fault{}); err != nil || len(f.active) != 0 || f.spoils() || f.hold(t.Context()) != nil {
			t.Fatalf("%v, %d active", err, len(f.active))
		}
	}
}

// TestFaultsOfTheNetworkAreTheNetworks: the node itself answers as ever, and ends them with all others.
func TestFaultsOfTheNetworkAreTheNetworks(t *testing.T) {
	w := new(wires)
	f := newFaults(true, nil, w)
	faults := []dems.Fault{
		{Kind: dems.Partition, Lasts: time.Second, Peers: []string{"n2"}, Direction: dems.Incoming},
		{Kind: dems.Latency, Delay: time.Second, Jitter: time.Second},
	}
	for _, fault := range faults {
		if done, err := f.inject(t.Context(), fault); err != nil || done != "" || len(f.active) != 0 || f.hold(t.Context()) != nil {
			t.Errorf("%+v: %q, %v, %d active", fault, done, err, len(f.active))
		}
	}
	if difference := cmp.Diff(faults, w.impaired); difference != "" || w.healed != 0 {
		t.Error(difference, w.healed)
	}
	if _, err := f.inject(t.Context(), dems.Fault{}); err != nil || w.healed != 1 {
		t.Errorf("%v, healed %d times", err, w.healed)
	}
	w.refuse = errors.New("there is no node n9")
	if _, err := f.inject(t.Context(), faults[0]); !isBadRequest(err) || !errors.Is(err, w.refuse) {
		t.Errorf("refused with %v", err)
	}
	if _, err := f.inject(t.Context(), dems.Fault{Kind: dems.Partition}); !isBadRequest(err) || len(w.impaired) != 3 {
		t.Errorf("a malformed one: %v", err)
	}
}

func TestStateIsAlteredDifferentlyEachTime(t *testing.T) {
	seeds := make(map[uint64]bool)
	f := newFaults(true, func(seed uint64) string { seeds[seed] = true; return fmt.Sprint("seed ", seed) }, new(wires))
	for range 10 {
		done, err := f.inject(t.Context(), dems.Fault{Kind: dems.WrongState})
		if err != nil || done == "" {
			t.Fatal(err)
		}
	}
	if len(seeds) != 10 || len(f.active) != 0 {
		t.Errorf("%d seeds, %d active", len(seeds), len(f.active))
	}
}

func TestSlowCallsAreLate(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := started(t, dems.Fault{Kind: dems.Slow, Delay: 3 * time.Second, Requests: 2})
		took := func(hold func(context.Context) error, ctx context.Context) (time.Duration, error) {
			start := time.Now()
			err := hold(ctx)
			return time.Since(start), err
		}
		if late, err := took(f.holdMessage, t.Context()); late != 3*time.Second || err != nil { // uses nothing up
			t.Errorf("a message is late by %v, %v", late, err)
		}
		if late, err := took(f.hold, t.Context()); late != 3*time.Second || err != nil {
			t.Errorf("late by %v, %v", late, err)
		}
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if late, err := took(f.hold, ctx); late != time.Second || !errors.Is(err, context.DeadlineExceeded) {
			t.Errorf("late by %v, %v", late, err)
		}
		for _, hold := range []func(context.Context) error{f.hold, f.holdMessage} {
			if late, err := took(hold, t.Context()); late != 0 || err != nil {
				t.Errorf("after two calls late by %v, %v", late, err)
			}
		}
	})
}

func TestMuteNodesAnswerNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := started(t, dems.Fault{Kind: dems.Mute})
		answers := make(chan error, 3)
		go func() { answers <- f.hold(t.Context()) }()
		go func() { answers <- f.holdMessage(t.Context()) }()
		ctx, cancel := context.WithTimeout(t.Context(), time.Hour)
		defer cancel()
		if err := f.hold(ctx); !errors.Is(err, context.DeadlineExceeded) {
			t.Error(err)
		}
		synctest.Wait()
		if len(answers) != 0 {
			t.Fatalf("after an hour: %v", <-answers)
		}
		f.clear()
		for range 2 {
			if err := <-answers; !errors.Is(err, errReleased) {
				t.Error(err)
			}
		}
		if f.hold(t.Context()) != nil || f.holdMessage(t.Context()) != nil {
			t.Error("still mute")
		}
	})
}

// TestMuteCallsStayUnanswered shows that a call which a fault has swallowed is lost for good when the fault is used up, but
// not the streams that were only silent meanwhile.
func TestMuteCallsStayUnanswered(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := started(t, dems.Fault{Kind: dems.Mute, Requests: 2})
		calls, messages := make(chan error, 2), make(chan error, 1)
		go func() { messages <- f.holdMessage(t.Context()) }()
		go func() { calls <- f.hold(t.Context()) }()
		synctest.Wait()
		if len(messages) != 0 {
			t.Error("a message of a mute node")
		}
		go func() { calls <- f.hold(t.Context()) }()
		synctest.Wait()
		if err := <-messages; !errors.Is(err, errReleased) {
			t.Error(err)
		}
		if f.hold(t.Context()) != nil || f.holdMessage(t.Context()) != nil {
			t.Error("still mute after two calls")
		}
		if len(calls) != 0 {
			t.Fatalf("a call was answered: %v", <-calls)
		}
		if _, err := f.inject(t.Context(), dems.Fault{Kind: dems.Mute}); err != nil { // in place of the one that is used up
			t.Fatal(err)
		}
		for range 2 {
			if err := <-calls; !errors.Is(err, errReleased) {
				t.Error(err)
			}
		}
	})
}

// TestNothingIsHeldLongerThanTheNode shows that the end of a node lets go of whoever waits for it: the endpoint may live on.
func TestNothingIsHeldLongerThanTheNode(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		faults, w := started(t, dems.Fault{Kind: dems.Mute}), new(wires)
		faults.network = w
		n := &Node{state: &stateMachine{faults: faults}}
		n.work, n.stop = context.WithCancel(t.Context())
		handler := n.handler()
		answers := make(chan error, 3)
		go func() {
			_, err := handler.Status(t.Context())
			answers <- err
		}()
		go func() { answers <- handler.Replace(t.Context(), "n2") }()
		go func() { answers <- handler.Votes(t.Context(), 1, nil) }()
		synctest.Wait()
		if len(answers) != 0 {
			t.Fatalf("a mute node answers: %v", <-answers)
		}
		n.stop()
		for range 3 {
			err := <-answers
			refused, ok := errors.AsType[*dems.ReplicaError](err)
			if !ok || refused.Kind != dems.NotApplied || !errors.Is(err, errReleased) {
				t.Error(err)
			}
		}
		if synctest.Wait(); w.healed != 1 {
			t.Errorf("the network was healed %d times", w.healed)
		}
	})
}

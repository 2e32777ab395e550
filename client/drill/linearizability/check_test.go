package linearizability

import (
	"context"
	"fmt"
	"math/rand/v2"
	"runtime"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"
	"go.uber.org/goleak"

	"dems"
	"dems/client/drill/history"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// simulate returns what clients of a correct server saw in one group.
func simulate(t testing.TB, group, clients, operations, lost int, seed uint64) []history.Operation {
	s := newSimulation(t, group, clients, seed)
	s.lost, s.failed = lost, lost
	s.run(operations)
	return s.operations
}

// TestCorrectHistories shows that what a correct server answers is found linearizable, whatever is lost.
func TestCorrectHistories(t *testing.T) {
	const groups = 120
	var all []history.Operation
	outcomes := map[history.Outcome]int{}
	for group := range groups {
		for _, o := range simulate(t, group, 1+group%8, 300, group%4*8, 1) {
			outcomes[o.Outcome]++
			all = append(all, o)
		}
	}
	rand.New(rand.NewPCG(1, 1)).Shuffle(groups, func(i, j int) { // groups may come in any order
		a, b := all[i], all[j]
		if a.Group != b.Group {
			all[i], all[j] = b, a
		}
	})
	result := Check(t.Context(), all, Options{})
	if len(result.Violations) > 0 || len(result.Undecided) > 0 {
		t.Errorf("%d violations, %d undecided: %v %v", len(result.Violations), len(result.Undecided), result.Violations, result.Undecided)
	}
	if result.Groups != groups || result.Operations != len(all) || result.Duration <= 0 {
		t.Errorf("%d groups, %d operations in %s", result.Groups, result.Operations, result.Duration)
	}
	if outcomes[history.Unknown] < 200 || outcomes[history.Failed] < 200 {
		t.Errorf("outcomes %v", outcomes)
	}
	if disorders := CheckSequences(all[:300]); len(disorders) > 0 {
		t.Errorf("sequences of group 0: %v", disorders)
	}
}

func TestNothing(t *testing.T) {
	if got := Check(t.Context(), nil, Options{}); got.Groups != 0 || got.Violations != nil || got.Undecided != nil {
		t.Errorf("no operations: %+v", got)
	}
	failed := []history.Operation{{Number: 1, Outcome: history.Failed, Command: dems.Command{Op: dems.BookEvent}}}
	if got := Check(t.Context(), failed, Options{}); got.Groups != 1 || got.Violations != nil || got.Undecided != nil {
		t.Errorf("nothing but a failure: %+v", got)
	}
}

// order is the check as anybody would write it who has all the time in the world: it tries every order.
func bruteForce(at *state, left []history.Operation) bool {
	answered := slices.ContainsFunc(left, func(o history.Operation) bool { return o.Outcome == history.Answered })
	if !answered {
		return true // what is unknown may never take effect
	}
	for i, o := range left {
		early := func(other history.Operation) bool { return other.Outcome == history.Answered && other.Return < o.Call }
		if o.Outcome == history.Failed || slices.ContainsFunc(left, early) {
			continue
		}
		next, result := at.do(&o.Command)
		if o.Outcome == history.Answered && !sameAnswer(&result, &o.Result) {
			continue
		}
		if bruteForce(next, slices.Delete(slices.Clone(left), i, i+1)) {
			return true
		}
	}
	return false
}

// spoil changes one answer into that of another operation, or one of another kind; the history may be right nevertheless.
func spoil(random *rand.Rand, operations []history.Operation) {
	at, from := random.IntN(len(operations)), random.IntN(len(operations))
	o, other := &operations[at], operations[from]
	switch random.IntN(4) {
	case 0:
		o.Outcome, o.Result = history.Unknown, dems.Result{}
	case 1:
		o.Outcome, o.Result = history.Failed, dems.Result{}
	case 2:
		if o.Command.Op == other.Command.Op && o.Outcome == history.Answered && other.Outcome == history.Answered {
			o.Result = other.Result
		}
	default:
		if o.Outcome == history.Answered {
			o.Result = dems.Result{Code: pick(random, []dems.Code{dems.NotBooked, dems.EventFull, dems.EventNotFound, dems.AlreadyBooked}), Sequence: o.Result.Sequence}
		}
	}
}

// TestAgainstBruteForce compares the verdict on short histories, right and wrong ones, with that of trying every order.
func TestAgainstBruteForce(t *testing.T) {
	const histories = 3000
	verdicts := map[verdict]int{}
	for seed := range uint64(histories) {
		s := newSimulation(t, 0, 2+int(seed%3), seed)
		s.events, s.customers = s.events[:4], s.customers[:3]
		s.lost, s.failed = 60, 30
		s.run(4 + 9)
		for range s.random.IntN(3) {
			spoil(s.random, s.operations)
		}
		want := unexplained
		if bruteForce(&state{}, s.operations) {
			want = explained
		}
		g := group{0, s.operations}
		if got := g.check(t.Context(), Options{}.withDefaults()); got.verdict != want {
			t.Fatalf("seed %d: the verdict is %d, want %d:\n%s", seed, got.verdict, want, text(s.operations))
		}
		verdicts[want]++
		if want == unexplained {
			var v Violation
			v.explain(t.Context(), g, Options{}.withDefaults())
			if bruteForce(&state{}, v.Operations) {
				t.Fatalf("seed %d: the part can be explained:\n%s\nof:\n%s", seed, text(v.Operations), text(s.operations))
			}
			before := slices.Clone(v.Operations)
			before[slices.IndexFunc(before, func(o history.Operation) bool { return o.Number == v.Unplaced.Number })].Outcome = history.Unknown
			if !bruteForce(&state{}, before) {
				t.Fatalf("seed %d: a shorter part cannot be explained:\n%s", seed, text(before))
			}
			if len(v.Explanation) < 3 || !strings.Contains(v.String(), describe(&v.Unplaced)) {
				t.Fatalf("seed %d: explained as %s", seed, v)
			}
		}
	}
	if verdicts[explained] < histories/5 || verdicts[unexplained] < histories/5 {
		t.Errorf("verdicts %v", verdicts)
	}
}

func text(operations []history.Operation) string {
	var lines strings.Builder
	for i := range operations {
		fmt.Fprintln(&lines, describe(&operations[i]))
	}
	return lines.String()
}

// hard returns a group whose answers contradict each other in the end, so that every order has to be tried: many concurrent
// bookings, whose order shows in the state, and unknown ones.
func hard(t testing.TB, group int) []history.Operation {
	s := newSimulation(t, group, 1, 1)
	event := s.events[0]
	s.step(dems.Command{Op: dems.AddEvent, By: dems.UserID{City: event.ID.City, Role: dems.Manager}, Event: event, Capacity: 1000})
	s.clients = make([]*flight, 40)
	for client := range s.clients {
		customer := dems.UserID{City: event.ID.City, Role: dems.Customer, Number: uint16(100*group + client)}
		s.send(client, dems.Command{Op: dems.BookEvent, By: customer, Customer: customer, Event: event})
	}
	s.wait()
	s.step(dems.Command{Op: dems.GetEvent, By: dems.UserID{City: event.ID.City, Role: dems.Manager}, Event: event})
	s.operations[len(s.operations)-1].Result.Event.Booked++
	for i := range s.operations { // or the log would tell the order
		s.operations[i].Result.Sequence = 0
	}
	return s.operations
}

// TestBounds shows that a search that takes too long, or too much, is undecided, and that others are decided nevertheless.
func TestBounds(t *testing.T) {
	for name, test := range map[string]struct {
		options Options
		reason  string
	}{
		"memory":          {Options{MemoryBytes: 1 << 20}, "there are too many orders to try them all"},
		"time of a group": {Options{GroupTimeout: time.Millisecond}, "the time for one group was up"},
	} {
		t.Run(name, func(t *testing.T) {
			operations := append(simulate(t, 1, 4, 60, 0, 1), hard(t, 2)...)
			result := Check(t.Context(), append(operations, simulate(t, 3, 4, 60, 0, 1)...), test.options)
			want := []Undecided{{Group: 2, Operations: 42, Reason: test.reason}}
			if difference := cmp.Diff(want, result.Undecided); difference != "" || len(result.Violations) > 0 || result.Groups != 3 {
				t.Errorf("%d groups, violations %v, undecided (-want +got):\n%s", result.Groups, result.Violations, difference)
			}
			if text := result.Undecided[0].String(); !strings.HasPrefix(text, "Group 2, with 42 operations") || !strings.Contains(text, test.reason) {
				t.Error(text)
			}
		})
	}
}

// TestTimeForAll shows, with a clock that stands still but for timers, that what is left when the time is up is undecided.
func TestTimeForAll(t *testing.T) {
	operations := append(simulate(t, 1, 4, 60, 0, 1), simulate(t, 2, 4, 60, 0, 1)...)
	for name, test := range map[string]struct {
		prepare func(context.Context) (context.Context, context.CancelFunc)
		reason  string
	}{
		"ended": {func(ctx context.Context) (context.Context, context.CancelFunc) {
			ctx, end := context.WithCancel(ctx)
			end()
			return ctx, end
		}, "the check was ended"},
		"time up": {func(ctx context.Context) (context.Context, context.CancelFunc) { return context.WithTimeout(ctx, 0) }, "the time for all groups was up"},
	} {
		synctest.Test(t, func(t *testing.T) {
			ctx, cancel := test.prepare(t.Context())
			defer cancel()
			result := Check(ctx, operations, Options{Workers: 1})
			if len(result.Undecided) != 2 || len(result.Violations) != 0 {
				t.Fatalf("%s: %+v", name, result)
			}
			for _, u := range result.Undecided {
				if u.Reason != test.reason {
					t.Errorf("%s: %s", name, u)
				}
			}
		})
	}
}

func TestOptions(t *testing.T) {
	most := runtime.GOMAXPROCS(0)
	defaults := Options{GroupTimeout: 10 * time.Second, Timeout: 2 * time.Minute, Workers: most, MemoryBytes: 1 << 30}
	own := Options{GroupTimeout: 1, Timeout: 2, Workers: 1, MemoryBytes: 4}
	for _, test := range []struct{ given, want Options }{
		{Options{}, defaults},
		{Options{Workers: -1}, defaults},
		{Options{Workers: most + 1}, defaults},
		{own, own},
	} {
		if got := test.given.withDefaults(); got != test.want {
			t.Errorf("%+v becomes %+v, want %+v", test.given, got, test.want)
		}
	}
}

// TestGroupsThatMayChangeEachOther shows that groups that are not independent are not judged, and the others are.
func TestGroupsThatMayChangeEachOther(t *testing.T) {
	key := func(eventType dems.EventType, id string) dems.EventKey {
		parsed, ok := dems.ParseEventID(id)
		if !ok {
			t.Fatal(id)
		}
		return dems.EventKey{Type: eventType, ID: parsed}
	}
	customer, _ := dems.ParseUserID("MTLC0001")
	other, _ := dems.ParseUserID("MTLC0002")
	manager, _ := dems.ParseUserID("MTLM0001")
	book := func(group int, customer dems.UserID, event dems.EventKey) history.Operation {
		command := dems.Command{Op: dems.BookEvent, By: customer, Customer: customer, Event: event}
		return history.Operation{Group: group, Command: command, Outcome: history.Answered, Result: refused(dems.EventNotFound)}
	}
	show := func(group int, event dems.EventKey) history.Operation {
		command := dems.Command{Op: dems.GetEvent, By: manager, Event: event}
		return history.Operation{Group: group, Command: command, Outcome: history.Answered, Result: refused(dems.EventNotFound)}
	}
	cancel := func(group int, customer dems.UserID, id string) history.Operation {
		command := dems.Command{Op: dems.CancelEvent, By: customer, Customer: customer, Event: key(0, id)}
		return history.Operation{Group: group, Command: command, Outcome: history.Answered, Result: refused(dems.NotBooked)}
	}
	shared := func(what string) []string {
		text := "%d it shares " + what + " with group %d, so that one may change answers of the other"
		return []string{fmt.Sprintf(text, 1, 2), fmt.Sprintf(text, 2, 1)}
	}
	for name, test := range map[string]struct {
		operations []history.Operation
		want       []string
	}{
		"an event": {
			[]history.Operation{book(1, customer, key(dems.Seminar, "TORM100570")), show(2, key(dems.Seminar, "TORM100570"))},
			shared("seminar/TORM100570"),
		},
		"one ID of two types, and nobody": {
			[]history.Operation{book(1, customer, key(dems.Seminar, "TORM100570")), book(2, other, key(dems.Conference, "TORM100570"))}, nil,
		},
		"a customer with one ID of two types": {
			[]history.Operation{book(1, customer, key(dems.Seminar, "MTLM100570")), book(2, customer, key(dems.Conference, "MTLM100570"))},
			shared("MTLC0001 and MTLM100570"),
		},
		"a customer who cancels by an ID of the other group": {
			[]history.Operation{book(1, customer, key(dems.Seminar, "MTLM100570")), cancel(2, customer, "MTLM100570")},
			shared("MTLC0001 and MTLM100570"),
		},
		"a customer's limit": {
			[]history.Operation{book(1, customer, key(dems.Seminar, "TORM100570")), book(2, customer, key(dems.Seminar, "OTWM110570"))},
			shared("MTLC0001 and that customer's limit of a month"),
		},
		"a customer's limit, by an event that somebody else names": {
			[]history.Operation{
				book(1, customer, key(dems.Seminar, "TORM100470")), show(1, key(dems.Seminar, "TORM100570")),
				book(2, customer, key(dems.Seminar, "OTWM110570")),
			},
			shared("MTLC0001 and that customer's limit of a month"),
		},
		"a customer, with foreign events in different months": {
			[]history.Operation{book(1, customer, key(dems.Seminar, "TORM100570")), book(2, customer, key(dems.Seminar, "OTWM110670"))}, nil,
		},
		"a customer, with events at home": {
			[]history.Operation{book(1, customer, key(dems.Seminar, "MTLM100570")), book(2, customer, key(dems.Seminar, "MTLM110570"))}, nil,
		},
		"a customer, with events at home and elsewhere": {
			[]history.Operation{book(1, customer, key(dems.Seminar, "MTLM100570")), book(2, customer, key(dems.Seminar, "TORM110570"))}, nil,
		},
	} {
		t.Run(name, func(t *testing.T) {
			innocent := book(3, other, key(dems.TradeShow, "OTWE311299"))
			result := Check(t.Context(), append(test.operations, innocent), Options{})
			var got []string
			for _, u := range result.Undecided {
				got = append(got, fmt.Sprint(u.Group, " ", u.Reason))
			}
			if difference := cmp.Diff(test.want, got); difference != "" || len(result.Violations) > 0 {
				t.Errorf("violations %v, undecided (-want +got):\n%s", result.Violations, difference)
			}
		})
	}
}

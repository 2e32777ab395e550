package history

import (
	"errors"
	"strings"
	"sync"
	"testing"
	"time"
	"unicode/utf8"

	"github.com/google/go-cmp/cmp"

	"dems"
)

// clock is a clock that tests set by hand.
type clock struct{ now time.Time }

func (c *clock) read() time.Time { return c.now }

func (c *clock) advance(by time.Duration) { c.now = c.now.Add(by) }

func newTestRecorder(limit int) (*Recorder, *clock) {
	c := &clock{now: time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)}
	return newRecorder(limit, c.read), c
}

func begin(t *testing.T, r *Recorder, group, client int, command dems.Command) *Pending {
	t.Helper()
	p, err := r.Begin(group, client, command)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

var errTest = errors.New("504 indeterminate")

func TestRecorder(t *testing.T) {
	r, clock := newTestRecorder(0)
	if got := r.Began(); !got.Equal(clock.now) {
		t.Errorf("began at %s", got)
	}
	book := dems.Command{Op: dems.BookEvent, Key: "k1", Time: clock.now}
	clock.advance(time.Second)
	answered := begin(t, r, 7, 3, book)
	clock.advance(time.Second)
	failed := begin(t, r, 8, 4, dems.Command{Op: dems.CancelEvent})
	lost := begin(t, r, 8, 5, dems.Command{Op: dems.SwapEvent})
	begin(t, r, 9, 6, dems.Command{Op: dems.GetEvent})
	clock.advance(time.Second)
	lost.Lose(errTest)
	failed.Fail(errors.New("503 unavailable"))
	clock.advance(time.Second)
	answered.Answer(dems.Result{Code: dems.EventFull, Sequence: 12})
	clock.advance(time.Second)
	if got := r.Elapsed(); got != 5*time.Second {
		t.Errorf("%s elapsed", got)
	}
	if answered.Number() != 1 || lost.Number() != 3 {
		t.Errorf("numbers %d and %d", answered.Number(), lost.Number())
	}
	want := []Operation{
		{
			Number: 1, Group: 7, Client: 3, Call: time.Second, Return: 4 * time.Second, Outcome: Answered,
			Command: dems.Command{Op: dems.BookEvent, Key: "k1"}, Result: dems.Result{Code: dems.EventFull, Sequence: 12},
		},
		{
			Number: 2, Group: 8, Client: 4, Call: 2 * time.Second, Return: 3 * time.Second, Outcome: Failed,
			Command: dems.Command{Op: dems.CancelEvent}, Error: "503 unavailable",
		},
		{
			Number: 3, Group: 8, Client: 5, Call: 2 * time.Second, Return: 3 * time.Second, Outcome: Unknown,
			Command: dems.Command{Op: dems.SwapEvent}, Error: "504 indeterminate",
		},
		{
			Number: 4, Group: 9, Client: 6, Call: 2 * time.Second, Return: 5 * time.Second, Outcome: Unknown,
			Command: dems.Command{Op: dems.GetEvent}, Error: "there was no answer yet",
		},
	}
	if difference := cmp.Diff(want, r.Operations()); difference != "" {
		t.Errorf("operations (-want +got):\n%s", difference)
	}
}

// TestSettling shows which outcome may follow which.
func TestSettling(t *testing.T) {
	answer := func(p *Pending) { p.Answer(dems.Result{Outcome: dems.Booked}) }
	fail := func(p *Pending) { p.Fail(errTest) }
	lose := func(p *Pending) { p.Lose(errTest) }
	for name, test := range map[string]struct {
		steps []func(*Pending)
		want  Outcome
		after time.Duration // Return
	}{
		"answered, then failed":      {[]func(*Pending){answer, fail}, Answered, time.Second},
		"answered, then lost":        {[]func(*Pending){answer, lose}, Answered, time.Second},
		"failed, then answered":      {[]func(*Pending){fail, answer}, Failed, time.Second},
		"lost, then answered":        {[]func(*Pending){lose, answer}, Answered, 2 * time.Second},
		"lost, then failed":          {[]func(*Pending){lose, fail}, Unknown, 2 * time.Second},
		"lost, failed, and answered": {[]func(*Pending){lose, fail, answer}, Answered, 3 * time.Second},
	} {
		t.Run(name, func(t *testing.T) {
			r, clock := newTestRecorder(0)
			p := begin(t, r, 0, 0, dems.Command{Op: dems.BookEvent})
			for _, step := range test.steps {
				clock.advance(time.Second)
				step(p)
			}
			got := r.Operations()[0]
			if got.Outcome != test.want || got.Return != test.after {
				t.Errorf("%s at %s, want %s at %s", got.Outcome, got.Return, test.want, test.after)
			}
			if answered := got.Outcome == Answered; answered != (got.Error == "") || answered != (got.Result.Outcome == dems.Booked) {
				t.Errorf("%s with error %q and result %+v", got.Outcome, got.Error, got.Result)
			}
		})
	}
}

func TestRecorderIsBounded(t *testing.T) {
	r, _ := newTestRecorder(2)
	first := begin(t, r, 0, 0, dems.Command{Op: dems.BookEvent})
	begin(t, r, 0, 0, dems.Command{Op: dems.BookEvent})
	for range 3 {
		if p, err := r.Begin(0, 0, dems.Command{Op: dems.BookEvent}); p != nil || !errors.Is(err, ErrFull) {
			t.Fatalf("a third operation: %v, %v", p, err)
		}
	}
	first.Answer(dems.Result{Outcome: dems.Booked})
	if got := r.Operations(); len(got) != 2 || got[0].Outcome != Answered {
		t.Errorf("operations %+v", got)
	}
	for _, limit := range []int{-1, 0, MaxOperations + 1} {
		if got := NewRecorder(limit).limit; got != MaxOperations {
			t.Errorf("NewRecorder(%d) has the limit %d", limit, got)
		}
	}
}

func TestErrorsAreBounded(t *testing.T) {
	for _, text := range []string{strings.Repeat("é", MaxErrorBytes), "x" + strings.Repeat("é", MaxErrorBytes), "bad \xff bytes"} {
		got := errorText(errors.New(text))
		if len(got) > MaxErrorBytes || len(got) < min(len(text), MaxErrorBytes)-1 || !utf8.ValidString(got) {
			t.Errorf("%.20q… becomes %q", text, got)
		}
	}
	if got := errorText(nil); got != "" {
		t.Errorf("no error is %q", got)
	}
}

// TestConcurrently shows that clients share a recorder: nothing is lost, and numbers and calls have one order.
func TestConcurrently(t *testing.T) {
	r := NewRecorder(0)
	const clients, each = 8, 500
	var running sync.WaitGroup
	for client := range clients {
		running.Go(func() {
			for i := range each {
				p, err := r.Begin(i%5, client, dems.Command{Op: dems.BookEvent})
				if err != nil {
					t.Error(err)
					return
				}
				switch i % 4 {
				case 0:
					p.Lose(errTest)
				case 1:
					p.Fail(errTest)
				default:
					p.Answer(dems.Result{Sequence: uint64(i)})
				}
				if i%100 == 0 {
					r.Operations()
				}
			}
		})
	}
	running.Wait()
	operations, outcomes, last := r.Operations(), map[Outcome]int{}, map[int]time.Duration{}
	for i, o := range operations {
		if o.Number != uint64(i)+1 || i > 0 && o.Call < operations[i-1].Call || o.Return < o.Call {
			t.Fatalf("operation %d after %+v: %+v", i, operations[max(i-1, 0)], o)
		}
		if o.Call < last[o.Client] {
			t.Fatalf("client %d did two things at once: %+v", o.Client, o)
		}
		last[o.Client] = o.Return
		outcomes[o.Outcome]++
	}
	want := map[Outcome]int{Answered: clients * each / 2, Failed: clients * each / 4, Unknown: clients * each / 4}
	if difference := cmp.Diff(want, outcomes); difference != "" {
		t.Errorf("outcomes (-want +got):\n%s", difference)
	}
}

func TestOutcomeNames(t *testing.T) {
	for outcome, want := range map[Outcome]string{0: "none", Answered: "answered", Failed: "failed", Unknown: "unknown", 9: "none"} {
		if got := outcome.String(); got != want {
			t.Errorf("outcome %d is %q, want %q", outcome, got, want)
		}
	}
}

package traffic

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dems"
	"dems/client/drill/history"
)

// outcomes counts operations by what is known of them.
func outcomes(operations []history.Operation) map[history.Outcome]int {
	counted := make(map[history.Outcome]int)
	for _, operation := range operations {
		counted[operation.Outcome]++
	}
	return counted
}

// TestSwallowedAnswersAreAskedForAgain: a part of what is done is never answered in time, so all of its clients have to ask again
// under the same key.
func TestSwallowedAnswersAreAskedForAgain(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		traffic, recorder := prepared(t, w, func(c *Config) { c.Clients = 12 })
		var mutations, unknown atomic.Int64
		w.planted = func(request *http.Request, forward forwardTo) *http.Response {
			answer := forward(request)
			if request.Method != http.MethodGet && mutations.Add(1)%10 == 0 {
				unknown.Store(max(unknown.Load(), int64(traffic.Counts().Unknown)))
				return nil
			}
			return answer
		}
		runFor(t, w, traffic, 4000)
		broken(t, traffic)
		operations := recorder.Operations()
		replay(t, operations)
		slow := 0
		for _, operation := range operations {
			if operation.Outcome == history.Answered && operation.Return-operation.Call >= 5*time.Second {
				slow++
			}
		}
		if counted := outcomes(operations); counted[history.Answered] != len(operations) || slow < 50 || unknown.Load() == 0 {
			t.Errorf("%v, %d of them asked for again, %d unknown at a time", counted, slow, unknown.Load())
		}
		counts := traffic.Counts()
		if counts.Tried != uint64(len(operations)) || counts.Tried != counts.Acknowledged+counts.Refused || counts.Unknown+counts.Failed != 0 ||
			counts.LastWrite.IsZero() || counts.LastRead.IsZero() {
			t.Errorf("%+v for %d operations", counts, len(operations))
		}
	})
}

// TestAFailureAfterALostAnswerSaysNothing: what is asked for again may be refused for a while; that does not undo it.
func TestAFailureAfterALostAnswerSaysNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		traffic, recorder := prepared(t, w, func(c *Config) { c.Clients = 4 })
		var lock sync.Mutex
		first := make(map[string]time.Time) // when a key came first
		w.planted = func(request *http.Request, forward forwardTo) *http.Response {
			key := request.Header.Get("Idempotency-Key")
			if !strings.HasSuffix(key, "7") {
				return forward(request)
			}
			lock.Lock()
			began, again := first[key]
			if !again {
				first[key] = time.Now()
			}
			lock.Unlock()
			switch {
			case !again:
				forward(request) // it is done, but nobody is told
				return nil
			case time.Since(began) < 12*time.Second:
				return answerOf(503, `{"code":"unavailable"}`)
			}
			return forward(request)
		}
		runFor(t, w, traffic, 2000)
		broken(t, traffic)
		replay(t, recorder.Operations())
		slow := 0
		for _, operation := range recorder.Operations() {
			if operation.Outcome != history.Answered {
				t.Fatalf("%+v", operation)
			}
			if operation.Return-operation.Call > 12*time.Second {
				slow++
			}
		}
		if counts := traffic.Counts(); slow < 20 || counts.Failed != 0 || counts.Unknown != 0 {
			t.Errorf("%d operations were failing for a while, %+v", slow, counts)
		}
	})
}

// outage has a front end answer nothing but that it cannot, for a while.
type outage struct{ begins, ends time.Time }

func (o *outage) plant(request *http.Request, forward forwardTo) *http.Response {
	if now := time.Now(); now.Before(o.begins) || !now.Before(o.ends) {
		return forward(request)
	}
	switch request.URL.Path[len(request.URL.Path)-1] % 3 { // of an address always the same
	case 0:
		return answerOf(503, `{"code":"unavailable"}`)
	case 1:
		return answerOf(504, `{"code":"indeterminate"}`)
	}
	return nil
}

func TestAnOutageIsSurvived(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		const rate = 100
		traffic, recorder := prepared(t, w, func(c *Config) { c.Rate = rate })
		o := &outage{begins: time.Now().Add(10 * time.Second), ends: time.Now().Add(30 * time.Second)}
		w.planted = o.plant
		ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
		defer cancel()
		if err := traffic.Run(ctx); err != nil {
			t.Fatal(err)
		}
		run := recorder.Operations()
		if err := traffic.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		broken(t, traffic)
		operations := recorder.Operations()
		linearizable(t, operations)
		replay(t, operations)
		counted := outcomes(operations)
		if counted[history.Failed] == 0 || counted[history.Unknown] != 0 || traffic.Counts().Failed != uint64(counted[history.Failed]) {
			t.Errorf("%v, %+v", counted, traffic.Counts())
		}
		// The rate is kept before and after, and what was missed is not made up for.
		perSecond := make([]int, 62)
		for _, operation := range run {
			perSecond[operation.Call/time.Second]++
		}
		for second, began := range perSecond[:60] {
			outage := second >= 10 && second < 30
			if began > rate*6/5 || !outage && second != 30 && began < rate*8/10 || outage && second > 11 && began > rate/5 {
				t.Errorf("second %d: %d operations began", second, began)
			}
		}
		if notes := traffic.Notes(); len(notes) > 0 {
			t.Errorf("notes %q", notes)
		}
	})
}

// TestEverythingEndsInTime: nothing answers any more, for ever.
func TestEverythingEndsInTime(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		recorder := history.NewRecorder(0)
		traffic, _ := prepared(t, w, func(c *Config) { c.API, c.Recorder, c.Rate = w.client(t, time.Hour), recorder, 400 })
		var dead atomic.Bool
		w.planted = func(request *http.Request, forward forwardTo) *http.Response {
			if !dead.Load() {
				return forward(request)
			}
			if request.Method != http.MethodGet && strings.HasSuffix(request.URL.Path, "/bookings") {
				forward(request) // it is done, but nobody is told
			}
			return nil
		}
		took := func(what string, limit time.Duration, do func(context.Context) error) error {
			t.Helper()
			ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
			defer cancel()
			began := time.Now()
			err := do(ctx)
			if elapsed := time.Since(began); elapsed > limit {
				t.Errorf("%s took %s", what, elapsed)
			}
			return err
		}
		time.AfterFunc(2*time.Second, func() { dead.Store(true) })
		if err := took("Run", 3*time.Second+grace, traffic.Run); err != nil {
			t.Error(err)
		}
		if counts := traffic.Counts(); counts.Unknown == 0 || counts.Unknown > 24 || time.Since(counts.LastWrite) < grace {
			t.Errorf("%+v", counts)
		}
		err := took("Settle", 3*time.Second, traffic.Settle)
		if err == nil || !strings.Contains(err.Error(), "still unknown whether they were applied") || !strings.Contains(err.Error(), "could not be read") {
			t.Errorf("Settle: %v", err)
		}
		if err := took("Clear", 3*time.Second, traffic.Clear); err == nil || !strings.Contains(err.Error(), "events could not be removed") {
			t.Errorf("Clear: %v", err)
		}
		broken(t, traffic) // what is not known is no finding
		linearizable(t, recorder.Operations())
		dead.Store(false)
		if err := traffic.Settle(t.Context()); err != nil {
			t.Error(err)
		}
		broken(t, traffic)
		replay(t, recorder.Operations())
		if counts := traffic.Counts(); counts.Unknown != 0 {
			t.Errorf("%+v", counts)
		}
		if err := traffic.Clear(t.Context()); err != nil || count(t, w) != 0 {
			t.Errorf("%v, %d events are left", err, count(t, w))
		}
		if err := traffic.Run(t.Context()); err == nil {
			t.Error("it runs twice")
		}
	})
}

// TestAnInterruptedRunIsCleared: nothing is settled, and an event that is still about to be made must not stay.
func TestAnInterruptedRunIsCleared(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		traffic, _ := prepared(t, w, func(c *Config) { c.API = w.client(t, time.Hour) })
		var late atomic.Pointer[http.Request]
		w.planted = func(request *http.Request, forward forwardTo) *http.Response {
			if request.Method == http.MethodPut && late.CompareAndSwap(nil, request.Clone(context.Background())) {
				return nil
			}
			return forward(request)
		}
		runOnly(t, w, traffic, 100)
		if traffic.Counts().Unknown != 1 {
			t.Fatalf("%+v", traffic.Counts())
		}
		if err := traffic.Clear(t.Context()); err != nil {
			t.Fatal(err)
		}
		if _, err := w.RoundTrip(late.Load()); err != nil { // only now does it arrive
			t.Fatal(err)
		}
		if left := count(t, w); left != 0 {
			t.Errorf("%d events are left", left)
		}
	})
}

// TestAGroupThatCannotBeSettledHasNoSuccessor: what may still be applied there could disturb it.
func TestAGroupThatCannotBeSettledHasNoSuccessor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		traffic, recorder := prepared(t, w, func(c *Config) { c.Clients = 4 })
		var victim atomic.Pointer[string] // key
		broke := atomic.Bool{}
		broke.Store(true)
		w.planted = func(request *http.Request, forward forwardTo) *http.Response {
			key := request.Header.Get("Idempotency-Key")
			if request.Method == http.MethodDelete && victim.CompareAndSwap(nil, &key) || broke.Load() && victim.Load() != nil && key == *victim.Load() {
				return answerOf(500, `{"code":"internal"}`)
			}
			return forward(request)
		}
		runOnly(t, w, traffic, 2000)
		if notes := traffic.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "has operations of unknown outcome") {
			t.Errorf("notes %q", notes)
		}
		contended := make(map[int]bool)
		for _, operation := range recorder.Operations() {
			if int(operation.Command.Event.ID.Date.Year)+2000 >= contendedYear {
				contended[operation.Group] = true
			}
		}
		if len(contended) != 1 || traffic.Counts().Unknown != 1 {
			t.Errorf("contended groups %v, %+v", contended, traffic.Counts())
		}
		if err := traffic.Settle(t.Context()); err == nil || !strings.HasSuffix(err.Error(), "of 1 operations it is still unknown whether they were applied") {
			t.Error(err)
		}
		if found := broken(t, traffic, "impossible answers"); found["impossible answers"] != 2*mostStrange {
			t.Errorf("found %v", found)
		}
		broke.Store(false)
		if err := traffic.Settle(t.Context()); err != nil {
			t.Error(err)
		}
		replay(t, recorder.Operations())
	})
}

func TestAFullHistoryEndsTheRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		const limit = 3000
		traffic, recorder := prepared(t, w, func(c *Config) { c.Recorder = history.NewRecorder(limit) })
		if err := traffic.Run(t.Context()); !errors.Is(err, history.ErrFull) {
			t.Fatal(err)
		}
		if err := traffic.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		broken(t, traffic)
		if counts := traffic.Counts(); counts.Tried != limit || counts.Acknowledged+counts.Refused != limit {
			t.Errorf("%+v", counts)
		}
		replay(t, recorder.Operations())
		if notes := traffic.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "The history is full") {
			t.Errorf("notes %q", notes)
		}
		if err := traffic.Clear(t.Context()); err != nil || count(t, w) != 0 {
			t.Errorf("%v, %d events are left", err, count(t, w))
		}
	})
}

// TestOldGroupsAreRetired: their last state is read, judged and removed while the others go on.
func TestOldGroupsAreRetired(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		traffic, recorder := prepared(t, w, nil)
		traffic.mostLeft = 200
		runOnly(t, w, traffic, 12_000)
		if left := count(t, w); left > 150 {
			t.Errorf("%d events exist at the end", left)
		}
		if err := traffic.Settle(t.Context()); err != nil {
			t.Fatal(err)
		}
		broken(t, traffic)
		operations := recorder.Operations()
		if _, groups := replay(t, operations); groups < 60 || len(traffic.known()) > 20 {
			t.Errorf("%d groups, of which %d are left", groups, len(traffic.known()))
		}
		// Whoever has asked for something in a group has the schedule read after that.
		type asker struct {
			group    int
			customer dems.UserID
		}
		unread := make(map[asker]bool)
		for _, operation := range operations {
			who := asker{operation.Group, operation.Command.Customer}
			switch op := operation.Command.Op; {
			case op == dems.GetBookingSchedule:
				delete(unread, who)
			case op.ForCustomer():
				unread[who] = true
			}
		}
		if len(unread) > 0 {
			t.Errorf("never read: %v", unread)
		}
		if err := traffic.Clear(t.Context()); err != nil || count(t, w) != 0 {
			t.Errorf("%v, %d events are left", err, count(t, w))
		}
	})
}

package traffic

import (
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"dems"
)

// make makes an event in somebody else's name.
func (w *wire) make(t *testing.T, key dems.EventKey, capacity string) {
	t.Helper()
	request := httptest.NewRequest(http.MethodPut, "/v1/events/"+key.String(), strings.NewReader(`{"capacity":`+capacity+`}`))
	request.Header.Set("Content-Type", "application/json")
	request.Header.Set("Dems-User", key.ID.City.String()+"M9999")
	answer := httptest.NewRecorder()
	w.handler.ServeHTTP(answer, request)
	if answer.Code != http.StatusCreated {
		t.Errorf("%s: %s", key, answer.Body)
	}
}

// TestTheDrillAfterOneThatWasKilled: what that left behind neither disturbs it nor is touched by it.
func TestTheDrillAfterOneThatWasKilled(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		killed, _ := prepared(t, w, nil)
		runOnly(t, w, killed, 3000)
		left := count(t, w)
		if left < 50 {
			t.Fatalf("%d events are left", left)
		}
		traffic, recorder := prepared(t, w, nil) // of the same seed
		runFor(t, w, traffic, 8000)
		broken(t, traffic)
		replay(t, recorder.Operations())
		if notes := traffic.Notes(); len(notes) > 0 {
			t.Errorf("notes %q", notes)
		}
		if err := traffic.Clear(t.Context()); err != nil || count(t, w) != left {
			t.Errorf("%v, %d events are left of %d", err, count(t, w), left)
		}
		if err := killed.Clear(t.Context()); err != nil || count(t, w) != 0 {
			t.Errorf("%v, %d events are left", err, count(t, w))
		}
	})
}

// TestWithoutRebooking: events exist after all dates that there are, to which bookings might be moved.
func TestWithoutRebooking(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		for _, eventType := range dems.EventTypes {
			for _, named := range dems.DefaultCities() {
				key := eventOn(t, named.City.String()+"E311299")
				key.Type = eventType
				w.make(t, key, "1000000")
			}
		}
		traffic, recorder := prepared(t, w, nil)
		runFor(t, w, traffic, 3000)
		broken(t, traffic)
		operations := recorder.Operations()
		replay(t, operations)
		for _, operation := range operations {
			if operation.Command.Op == dems.RemoveEvent && operation.Command.Bookings == dems.Rebook {
				t.Fatalf("%+v", operation)
			}
		}
		if notes := traffic.Notes(); len(notes) != 1 || !strings.Contains(notes[0], "so no event is removed with rebooking") {
			t.Errorf("notes %q", notes)
		}
		if err := traffic.Clear(t.Context()); err != nil || count(t, w) != 9 {
			t.Errorf("%v, %d events are left", err, count(t, w))
		}
	})
}

// TestSomebodyElseIsNoticed: events that others make while the traffic runs are told about, and not removed.
func TestSomebodyElseIsNoticed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWire(t)
		w.delay = time.Millisecond
		traffic, recorder := prepared(t, w, nil)
		var puts, gets atomic.Int64
		w.planted = func(request *http.Request, forward forwardTo) *http.Response {
			if id, ok := dems.ParseEventID(request.URL.Path[strings.LastIndexByte(request.URL.Path, '/')+1:]); ok &&
				request.Method == http.MethodPut && int(id.Date.Year)+2000 < contendedYear && puts.Add(1) == 3 {
				eventType, _ := dems.ParseEventType(strings.Split(request.URL.Path, "/")[3])
				w.make(t, dems.EventKey{Type: eventType, ID: id}, "10") // a moment before
			}
			if gets.Add(1) == 500 {
				for _, eventType := range dems.EventTypes {
					for _, named := range dems.DefaultCities() {
						key := eventOn(t, named.City.String()+"E311299")
						key.Type = eventType
						w.make(t, key, "1")
					}
				}
			}
			return forward(request)
		}
		runFor(t, w, traffic, 12_000)
		notes := strings.Join(traffic.Notes(), "\n")
		if strings.Count(notes, "Somebody else made ") != 1 || strings.Count(notes, "saw events of somebody else after its own") != 3 {
			t.Errorf("notes %s", notes)
		}
		rebooked := 0 // in the second half
		operations := recorder.Operations()
		for _, operation := range operations[len(operations)/2:] {
			if operation.Command.Op == dems.RemoveEvent && operation.Command.Bookings == dems.Rebook {
				rebooked++
			}
		}
		if rebooked > 0 {
			t.Errorf("%d times bookings were to be moved", rebooked)
		}
		if err := traffic.Clear(t.Context()); err != nil || count(t, w) != 10 {
			t.Errorf("%v, %d events are left", err, count(t, w))
		}
	})
}

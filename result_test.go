package dems_test

import (
	"encoding/json"
	"testing"

	"pgregory.net/rapid"

	"dems"
)

func TestResultText(t *testing.T) {
	event := dems.EventKey{Type: dems.Seminar, ID: mustEventID(t, "TORM100519")}
	other := dems.EventKey{Type: dems.Conference, ID: mustEventID(t, "MTLA110519")}
	customer, _ := dems.ParseUserID("MTLC0001")
	view := dems.EventView{Key: event, Capacity: 3, Booked: 1}
	for _, test := range []struct {
		op     dems.Op
		result dems.Result
		want   string
	}{
		{dems.AddEvent, dems.Result{Outcome: dems.Created, Event: view}, "seminar/TORM100519 created with capacity 3."},
		{dems.AddEvent, dems.Result{Outcome: dems.Updated, Event: view}, "seminar/TORM100519 updated with capacity 3."},
		{dems.RemoveEvent, dems.Result{Outcome: dems.Removed, Event: view, Affected: make([]dems.Affected, 2)}, "seminar/TORM100519 removed; 2 bookings affected."},
		{dems.BookEvent, dems.Result{Outcome: dems.Booked, Booking: event, Customer: customer}, "Booked seminar/TORM100519 for MTLC0001."},
		{dems.CancelEvent, dems.Result{Outcome: dems.Cancelled, Booking: event, Customer: customer}, "Cancelled seminar/TORM100519 for MTLC0001."},
		{dems.SwapEvent, dems.Result{Outcome: dems.Swapped, Booking: other, Old: event, Customer: customer}, "Swapped seminar/TORM100519 for conference/MTLA110519 for MTLC0001."},
		{dems.ListEventAvailability, dems.Result{Events: make([]dems.EventView, 4)}, "4 events."},
		{dems.GetBookingSchedule, dems.Result{}, "0 bookings."},
		{dems.GetEvent, dems.Result{Event: view}, "seminar/TORM100519: 2 of 3 seats available."},
		{dems.BookEvent, dems.Result{Code: dems.EventFull}, dems.EventFull.Advice()},
		{dems.Op(99), dems.Result{}, ""},
	} {
		if got := test.result.Text(&dems.Command{Op: test.op}); got != test.want {
			t.Errorf("%s: %q, want %q", test.op, got, test.want)
		}
	}
}

// TestResultTextNeedsNoEscaping shows that the sentence can stand in a JSON text as it is, and that appending it and
// returning it are the same.
func TestResultTextNeedsNoEscaping(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		command, result := drawCommand(t), drawResult(t)
		result.Event, result.Booking, result.Old = drawEventView(t), drawEvent(t), drawEvent(t)
		result.Customer = drawUser(t, dems.Customer)
		text := result.Text(&command)
		quoted, err := json.Marshal(text)
		if err != nil || string(quoted) != `"`+text+`"` || text == "" && result.Code == dems.OK {
			t.Fatalf("%q is %s in JSON, %v", text, quoted, err)
		}
		if appended := string(result.AppendText([]byte("before "), &command)); appended != "before "+text {
			t.Fatalf("appended: %q, returned: %q", appended, text)
		}
	})
}

func TestOutcomes(t *testing.T) {
	for number, want := range []string{"", "created", "updated", "removed", "booked", "cancelled", "swapped", "rebooked", "unknown"} {
		if got := dems.Outcome(number).String(); got != want {
			t.Errorf("outcome %d is %q, want %q", number, got, want)
		}
	}
}

// TestDigestOf pins the digest: nodes of different versions have to agree on it.
func TestDigestOf(t *testing.T) {
	if got := dems.DigestOf([]byte("abc")).String(); got != "ba7816bf8f01cfea414140de5dae2223" { // SHA-256 of abc, first half
		t.Errorf("got %s", got)
	}
}

func mustEventID(t *testing.T, text string) dems.EventID {
	t.Helper()
	id, ok := dems.ParseEventID(text)
	if !ok {
		t.Fatalf("%s is not an event ID", text)
	}
	return id
}

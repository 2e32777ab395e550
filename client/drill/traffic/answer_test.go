package traffic

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dems"
	"dems/client"
)

func userOf(t *testing.T, text string) dems.UserID {
	t.Helper()
	user, ok := dems.ParseUserID(text)
	if !ok {
		t.Fatalf("%s is no user", text)
	}
	return user
}

// TestErrorsOfTheClient: what is known after each code.
func TestErrorsOfTheClient(t *testing.T) {
	write, read := &dems.Command{Op: dems.BookEvent}, &dems.Command{Op: dems.GetEvent}
	for code, test := range map[dems.Code]struct {
		write, read verdict
		strange     bool
	}{
		dems.EventFull:            {answered, answered, false},
		dems.ForbiddenRole:        {answered, answered, false},
		dems.AmbiguousEventType:   {answered, answered, false},
		dems.Unavailable:          {failed, failed, false},
		dems.RateLimited:          {failed, failed, false},
		dems.Indeterminate:        {lost, failed, false},
		dems.NoMajority:           {lost, failed, false},
		dems.Internal:             {lost, failed, true},
		dems.MalformedRequest:     {lost, failed, true},
		dems.InvalidEventID:       {lost, failed, true},
		dems.IdempotencyKeyReused: {lost, failed, true},
		dems.NotFound:             {lost, failed, true},
		dems.Unauthenticated:      {lost, failed, true},
	} {
		err := &client.Error{Code: code, Sequence: 7, Detail: "Because."}
		for command, want := range map[*dems.Command]verdict{write: test.write, read: test.read} {
			got := replyOfError(command, err)
			if got.verdict != want || (got.strange != "") != test.strange {
				t.Errorf("%s of %s: verdict %d, %q", code, command.Op, got.verdict, got.strange)
			}
			if want == answered && (got.result.Code != code || got.result.Sequence != 7 || got.err != nil) || want != answered && got.err != err {
				t.Errorf("%s of %s: %+v, %v", code, command.Op, got.result, got.err)
			}
		}
	}
	if got := replyOfError(write, errors.New("the disk is full")); got.verdict != lost || got.strange == "" {
		t.Errorf("%+v", got)
	}
}

// TestEveryRefusalOfTheRulesIsAnAnswer: the list is complete.
func TestEveryRefusalOfTheRulesIsAnAnswer(t *testing.T) {
	known := make(map[dems.Code]bool)
	for _, code := range refusals {
		known[code] = true
	}
	for code := dems.ForbiddenRole; code <= dems.SameEvent; code++ {
		switch code {
		case dems.NotFound, dems.MethodNotAllowed, dems.PayloadTooLarge, dems.UnsupportedMediaType: // of the REST layer
		default:
			if !known[code] {
				t.Errorf("%s is missing", code)
			}
		}
		delete(known, code)
	}
	if len(known) > 0 {
		t.Errorf("%v are no refusals of the rules", known)
	}
}

// TestAnswers: what comes back for a body, and whether it is strange.
func TestAnswers(t *testing.T) {
	customer := userOf(t, "MTLC4000")
	seminar, other := eventOn(t, "TORM010150"), eventOn(t, "TORA020150")
	conference := dems.EventKey{Type: dems.Conference, ID: seminar.ID}
	untyped := dems.EventKey{ID: seminar.ID}
	const (
		event   = `{"eventID":"TORM010150","eventType":"seminar","city":"TOR","capacity":3,"booked":1,"available":2}`
		booking = `"customerID":"MTLC4000","eventID":"TORM010150","eventType":"seminar"`
	)
	view := dems.EventView{Key: seminar, Capacity: 3, Booked: 1}
	for name, test := range map[string]struct {
		command dems.Command
		body    string
		want    dems.Result
		strange string // "": it is not
	}{
		"created": {dems.Command{Op: dems.AddEvent, Event: seminar, Capacity: 3}, `{"outcome":"created","event":` + event + `}`,
			dems.Result{Outcome: dems.Created, Event: view}, ""},
		"made, but how": {dems.Command{Op: dems.AddEvent, Event: seminar, Capacity: 3}, `{"outcome":"removed","event":` + event + `}`,
			dems.Result{Event: view}, `the outcome is "removed"`},
		"another one made": {dems.Command{Op: dems.AddEvent, Event: other, Capacity: 3}, `{"outcome":"created","event":` + event + `}`,
			dems.Result{Outcome: dems.Created, Event: view}, "it is about seminar/TORM010150, not seminar/TORA020150"},
		"in another city": {dems.Command{Op: dems.GetEvent, Event: seminar}, `{"event":` + strings.ReplaceAll(event, `"TOR"`, `"MTL"`) + `}`,
			dems.Result{Event: view}, "seminar/TORM010150 is said to be in MTL"},
		"seats that do not add up": {dems.Command{Op: dems.GetEvent, Event: seminar}, `{"event":` + strings.ReplaceAll(event, `:2}`, `:1}`) + `}`,
			dems.Result{Event: view}, "seminar/TORM010150 has 3 seats, 1 booked and 1 available"},
		"too many bookings": {dems.Command{Op: dems.GetEvent, Event: seminar}, `{"event":` + strings.ReplaceAll(event, `:3`, `:0`) + `}`,
			dems.Result{Event: dems.EventView{Key: seminar, Booked: 1}}, ""},
		"removed": {dems.Command{Op: dems.RemoveEvent, Event: seminar},
			`{"outcome":"removed","event":` + event + `,"affected":[{"customerID":"MTLC4000","outcome":"rebooked","eventID":"TORA020150"},` +
				`{"customerID":"MTLC4000","outcome":"cancelled"}]}`,
			dems.Result{Outcome: dems.Removed, Event: view, Affected: []dems.Affected{
				{Customer: customer, Outcome: dems.Rebooked, Event: other}, {Customer: customer, Outcome: dems.Cancelled},
			}}, ""},
		"removed, with a booking that was booked": {dems.Command{Op: dems.RemoveEvent, Event: seminar},
			`{"outcome":"removed","event":` + event + `,"affected":[{"customerID":"MTLC4000","outcome":"booked"}]}`,
			dems.Result{Outcome: dems.Removed, Event: view, Affected: []dems.Affected{{Customer: customer}}}, `the outcome is "booked"`},
		"booked": {dems.Command{Op: dems.BookEvent, Customer: customer, Event: seminar}, `{"outcome":"booked","booking":{` + booking + `}}`,
			dems.Result{Outcome: dems.Booked, Booking: seminar, Customer: customer}, ""},
		"cancelled instead": {dems.Command{Op: dems.BookEvent, Customer: customer, Event: seminar}, `{"outcome":"cancelled","booking":{` + booking + `}}`,
			dems.Result{Booking: seminar, Customer: customer}, `the outcome is "cancelled"`},
		"booked for another one": {dems.Command{Op: dems.BookEvent, Customer: userOf(t, "MTLC4001"), Event: seminar},
			`{"outcome":"booked","booking":{` + booking + `}}`,
			dems.Result{Outcome: dems.Booked, Booking: seminar, Customer: customer}, "it is about seminar/TORM010150 for MTLC4000"},
		"booked another type": {dems.Command{Op: dems.BookEvent, Customer: customer, Event: conference},
			`{"outcome":"booked","booking":{` + booking + `}}`,
			dems.Result{Outcome: dems.Booked, Booking: seminar, Customer: customer}, "it is about seminar/TORM010150 for MTLC4000"},
		"cancelled without a type": {dems.Command{Op: dems.CancelEvent, Customer: customer, Event: untyped},
			`{"outcome":"cancelled","booking":{` + booking + `}}`,
			dems.Result{Outcome: dems.Cancelled, Booking: seminar, Customer: customer}, ""},
		"cancelled, but another ID": {dems.Command{Op: dems.CancelEvent, Customer: customer, Event: dems.EventKey{ID: other.ID}},
			`{"outcome":"cancelled","booking":{` + booking + `}}`,
			dems.Result{Outcome: dems.Cancelled, Booking: seminar, Customer: customer}, "it is about seminar/TORM010150 for MTLC4000"},
		"swapped": {dems.Command{Op: dems.SwapEvent, Customer: customer, Event: seminar, OldEvent: other},
			`{"outcome":"swapped","old":{"eventID":"TORA020150","eventType":"seminar"},"new":{"eventID":"TORM010150","eventType":"seminar"}}`,
			dems.Result{Outcome: dems.Swapped, Booking: seminar, Old: other, Customer: customer}, ""},
		"swapped the other way round": {dems.Command{Op: dems.SwapEvent, Customer: customer, Event: other, OldEvent: seminar},
			`{"outcome":"swapped","old":{"eventID":"TORA020150","eventType":"seminar"},"new":{"eventID":"TORM010150","eventType":"seminar"}}`,
			dems.Result{Outcome: dems.Swapped, Booking: seminar, Old: other, Customer: customer}, "it is about seminar/TORM010150 for seminar/TORA020150"},
		"a schedule": {dems.Command{Op: dems.GetBookingSchedule, Customer: customer},
			`{"customerID":"MTLC4000","bookings":[{"eventID":"TORM010150","eventType":"seminar","city":"TOR"}]}`,
			dems.Result{Customer: customer, Bookings: []dems.EventKey{seminar}}, ""},
		"an empty schedule": {dems.Command{Op: dems.GetBookingSchedule, Customer: customer}, `{"customerID":"MTLC4000","bookings":[]}`,
			dems.Result{Customer: customer}, ""},
		"another one's schedule": {dems.Command{Op: dems.GetBookingSchedule, Customer: userOf(t, "MTLC4001")}, `{"customerID":"MTLC4000","bookings":[]}`,
			dems.Result{Customer: customer}, "it is the schedule of MTLC4000"},
		"a schedule with a wrong city": {dems.Command{Op: dems.GetBookingSchedule, Customer: customer},
			`{"customerID":"MTLC4000","bookings":[{"eventID":"TORM010150","eventType":"seminar","city":"MTL"}]}`,
			dems.Result{Customer: customer, Bookings: []dems.EventKey{seminar}}, "seminar/TORM010150 is said to be in MTL"},
		"a list": {dems.Command{Op: dems.ListEventAvailability, Event: dems.EventKey{Type: dems.Seminar}}, `{"eventType":"seminar","events":[` + event + `]}`,
			dems.Result{Type: dems.Seminar, Events: []dems.EventView{view}}, ""},
		"a list of another type": {dems.Command{Op: dems.ListEventAvailability, Event: dems.EventKey{Type: dems.Conference}}, `{"eventType":"seminar","events":[]}`,
			dems.Result{Type: dems.Seminar}, `it lists events of the type "seminar"`},
		"a list with another type": {dems.Command{Op: dems.ListEventAvailability, Event: dems.EventKey{Type: dems.Conference}},
			`{"eventType":"conference","events":[` + event + `]}`,
			dems.Result{Type: dems.Conference, Events: []dems.EventView{view}}, "it lists seminar/TORM010150"},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWire(t)
			w.planted = func(*http.Request, forwardTo) *http.Response {
				answer := answerOf(200, test.body)
				answer.Header.Set("Dems-Sequence", "12")
				return answer
			}
			test.command.By, test.command.Key = userOf(t, "TORM0001"), "key"
			got := exchange(t.Context(), w.client(t, 0), &test.command)
			test.want.Sequence = 12
			if difference := cmp.Diff(test.want, got.result); difference != "" || got.verdict != answered || got.strange != test.strange {
				t.Errorf("verdict %d, strange %q, (-want +got):\n%s", got.verdict, got.strange, difference)
			}
		})
	}
}

func TestWhatIsNoOperationIsNotSent(t *testing.T) {
	w := newWire(t)
	if got := exchange(context.Background(), w.client(t, 0), &dems.Command{By: userOf(t, "TORM0001")}); got.verdict != failed || w.asked.Load() != 0 {
		t.Errorf("%+v", got)
	}
}

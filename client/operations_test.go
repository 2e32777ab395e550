package client_test

import (
	"context"
	"encoding/json"
	"errors"
	"testing"

	"github.com/google/go-cmp/cmp"

	"dems"
	"dems/client"
)

// TestOperations does each operation once and checks what is sent and what comes back.
func TestOperations(t *testing.T) {
	s := start(t, "TORM0001", 1, nil)
	ctx := t.Context()
	seminar, later := eventKey(t, dems.Seminar, "TORM100519"), eventKey(t, dems.Seminar, "TORA100519")
	conference := eventKey(t, dems.Conference, "TORE100519")
	customer := userID(t, "MTLC0001")
	view := func(key dems.EventKey, booked uint32) client.Event {
		return client.Event{ID: key.ID, Type: key.Type, City: key.ID.City, Capacity: 3, Booked: booked, Available: 3 - booked}
	}
	for _, event := range []dems.EventKey{seminar, later, conference} {
		added, err := s.AddEvent(ctx, event, 3)
		check(t, err, "created", added.Outcome)
		check(t, err, view(event, 0), added.Event)
	}
	updated, err := s.AddEvent(ctx, seminar, 3)
	check(t, err, "updated", updated.Outcome)
	booked, err := s.BookEvent(ctx, customer, seminar)
	check(t, err, client.Booking{Customer: customer, ID: seminar.ID, Type: seminar.Type}, booked.Booking)
	check(t, err, "booked", booked.Outcome)
	single, err := s.GetEvent(ctx, seminar)
	check(t, err, view(seminar, 1), single.Event)
	listed, err := s.ListEventAvailability(ctx, dems.Seminar)
	check(t, err, []client.Event{view(seminar, 1), view(later, 0)}, listed.Events)
	check(t, err, dems.Seminar, listed.Type)
	schedule, err := s.GetBookingSchedule(ctx, customer)
	check(t, err, []client.Scheduled{{ID: seminar.ID, Type: seminar.Type, City: seminar.ID.City}}, schedule.Bookings)
	check(t, err, customer, schedule.Customer)
	swapped, err := s.SwapEvent(ctx, customer, conference, seminar)
	check(t, err, client.EventRef{ID: seminar.ID, Type: seminar.Type}, swapped.Old)
	check(t, err, client.EventRef{ID: conference.ID, Type: conference.Type}, swapped.New)
	check(t, err, "swapped", swapped.Outcome)
	cancelled, err := s.CancelEvent(ctx, customer, dems.EventKey{ID: conference.ID})
	check(t, err, "cancelled", cancelled.Outcome)
	check(t, err, dems.Conference, cancelled.Booking.Type)
	booked, err = s.BookEvent(ctx, customer, seminar)
	check(t, err, "booked", booked.Outcome)
	removed, err := s.RemoveEvent(ctx, seminar, dems.Rebook)
	check(t, err, []client.Affected{{Customer: customer, Outcome: "rebooked", ID: later.ID}}, removed.Affected)
	check(t, err, view(seminar, 1), removed.Event)
	removed, err = s.RemoveEvent(ctx, later, dems.CancelBookings)
	check(t, err, []client.Affected{{Customer: customer, Outcome: "cancelled"}}, removed.Affected)

	want := []string{
		"PUT /v1/events/seminar/TORM100519", "PUT /v1/events/seminar/TORA100519", "PUT /v1/events/conference/TORE100519",
		"PUT /v1/events/seminar/TORM100519", "POST /v1/customers/MTLC0001/bookings", "GET /v1/events/seminar/TORM100519",
		"GET /v1/events/seminar", "GET /v1/customers/MTLC0001/bookings", "POST /v1/customers/MTLC0001/swaps",
		"DELETE /v1/customers/MTLC0001/bookings/TORE100519", "POST /v1/customers/MTLC0001/bookings",
		"DELETE /v1/events/seminar/TORM100519?bookings=rebook", "DELETE /v1/events/seminar/TORA100519?bookings=cancel",
	}
	var got []string
	keys := make(map[string]bool)
	for _, request := range s.frontEnds[0].Requests() {
		got = append(got, request.Method+" "+request.Path)
		if (request.Key == "") != (request.Method == "GET") || keys[request.Key] && request.Key != "" {
			t.Errorf("%s %s has key %q", request.Method, request.Path, request.Key)
		}
		keys[request.Key] = true
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Errorf("requests:\n%s", difference)
	}
}

// check fails the test at once after an error, so that results may be looked at in its arguments only where they exist.
func check[T any](t *testing.T, err error, want, got T) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
	if difference := cmp.Diff(want, got); difference != "" {
		t.Error(difference)
	}
}

func TestCancelNamesTheTypeWhereItIsGiven(t *testing.T) {
	s := start(t, "TORC0001", 1, nil)
	_, err := s.CancelEvent(t.Context(), userID(t, "TORC0001"), eventKey(t, dems.TradeShow, "TORM100519"))
	wantError(t, err, dems.NotBooked)
	if got, want := s.frontEnds[0].Requests()[0].Path, "/v1/customers/TORC0001/bookings/TORM100519?eventType=tradeshow"; got != want {
		t.Errorf("path %s, want %s", got, want)
	}
}

func TestRepliesCarrySequenceVotesKeyAndBody(t *testing.T) {
	s := start(t, "TORM0001", 1, nil)
	event := eventKey(t, dems.Seminar, "TORM100519")
	first, err := s.AddEvent(t.Context(), event, 3, client.WithKey("my-key"))
	if err != nil {
		t.Fatal(err)
	}
	if first.Sequence == 0 || first.Agreeing != 3 || first.Asked != 3 || first.Replayed || first.Key != "my-key" || first.Endpoint != s.frontEnds[0].URL {
		t.Errorf("reply %+v", first.Reply)
	}
	if !json.Valid(first.Body) {
		t.Errorf("body %q", first.Body)
	}
	again, err := s.AddEvent(t.Context(), event, 3, client.WithKey("my-key"))
	if err != nil {
		t.Fatal(err)
	}
	if !again.Replayed || again.Outcome != "created" || again.Sequence != first.Sequence {
		t.Errorf("the same key gives %+v", again)
	}
	_, err = s.AddEvent(t.Context(), event, 4, client.WithKey("my-key"))
	wantError(t, err, dems.IdempotencyKeyReused)
}

func TestRefusalsCarryWhatTheFrontEndSays(t *testing.T) {
	s := start(t, "TORC0001", 1, nil)
	_, err := s.BookEvent(t.Context(), userID(t, "TORC0001"), eventKey(t, dems.Seminar, "TORM100519"))
	failed := wantError(t, err, dems.EventNotFound)
	if failed.Status != 404 || failed.Detail != dems.EventNotFound.Advice() || failed.Sequence == 0 || failed.Key == "" || !json.Valid(failed.Body) {
		t.Errorf("%+v", failed)
	}
	if len(s.frontEnds[0].Requests()) != 1 {
		t.Error("a refusal was asked for again")
	}
}

// TestMalformedParametersAreNotSent: what would make another address, or none, is refused here.
func TestMalformedParametersAreNotSent(t *testing.T) {
	s := start(t, "TORM0001", 1, nil)
	event := eventKey(t, dems.Seminar, "TORM100519")
	customer, manager := userID(t, "TORC0001"), userID(t, "TORM0001")
	noType, noID := dems.EventKey{ID: event.ID}, dems.EventKey{Type: dems.Seminar}
	tooLarge := customer
	tooLarge.Number = 10000
	type call func(context.Context) error
	for name, test := range map[string]struct {
		want dems.Code
		call call
	}{
		"add without ID":        {dems.InvalidEventID, func(ctx context.Context) error { _, err := s.AddEvent(ctx, noID, 1); return err }},
		"add without type":      {dems.InvalidEventType, func(ctx context.Context) error { _, err := s.AddEvent(ctx, noType, 1); return err }},
		"capacity 0":            {dems.InvalidCapacity, func(ctx context.Context) error { _, err := s.AddEvent(ctx, event, 0); return err }},
		"capacity above":        {dems.InvalidCapacity, func(ctx context.Context) error { _, err := s.AddEvent(ctx, event, 1_000_001); return err }},
		"remove without type":   {dems.InvalidEventType, func(ctx context.Context) error { _, err := s.RemoveEvent(ctx, noType, 0); return err }},
		"show without ID":       {dems.InvalidEventID, func(ctx context.Context) error { _, err := s.GetEvent(ctx, noID); return err }},
		"list without type":     {dems.InvalidEventType, func(ctx context.Context) error { _, err := s.ListEventAvailability(ctx, 0); return err }},
		"book for a manager":    {dems.InvalidUserID, func(ctx context.Context) error { _, err := s.BookEvent(ctx, manager, event); return err }},
		"book for number 10000": {dems.InvalidUserID, func(ctx context.Context) error { _, err := s.BookEvent(ctx, tooLarge, event); return err }},
		"book without type":     {dems.InvalidEventType, func(ctx context.Context) error { _, err := s.BookEvent(ctx, customer, noType); return err }},
		"schedule of nobody":    {dems.InvalidUserID, func(ctx context.Context) error { _, err := s.GetBookingSchedule(ctx, dems.UserID{}); return err }},
		"cancel without ID":     {dems.InvalidEventID, func(ctx context.Context) error { _, err := s.CancelEvent(ctx, customer, noID); return err }},
		"swap without old":      {dems.InvalidEventID, func(ctx context.Context) error { _, err := s.SwapEvent(ctx, customer, event, noID); return err }},
		"swap without new type": {dems.InvalidEventType, func(ctx context.Context) error { _, err := s.SwapEvent(ctx, customer, noType, event); return err }},
		"empty key":             {dems.InvalidIdempotencyKey, func(ctx context.Context) error { _, err := s.AddEvent(ctx, event, 1, client.WithKey("")); return err }},
		"key with a line feed": {dems.InvalidIdempotencyKey, func(ctx context.Context) error {
			_, err := s.AddEvent(ctx, event, 1, client.WithKey("a\nb"))
			return err
		}},
		"log of no city":         {dems.MalformedRequest, func(ctx context.Context) error { _, err := s.CityLog(ctx, dems.City{}, 0); return err }},
		"log of a lower-case ID": {dems.MalformedRequest, func(ctx context.Context) error { _, err := s.CityLog(ctx, dems.City{'.', '.', '/'}, 0); return err }},
	} {
		err := test.call(t.Context())
		failed, ok := errors.AsType[*client.Error](err)
		if !ok || failed.Code != test.want || failed.Status != 0 || failed.Detail == "" {
			t.Errorf("%s: %v, want %s", name, err, test.want)
		}
	}
	if requests := s.frontEnds[0].Requests(); len(requests) != 0 {
		t.Errorf("sent %v", requests)
	}
}

func TestRegistry(t *testing.T) {
	s := start(t, "", 1, nil)
	view, err := s.Registry(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	check(t, err, dems.DefaultCities(), view.Cities)
	if len(view.Nodes) != 3 || view.Nodes[0].ID != "n1" || view.Nodes[0].Incarnation != 1 || view.Nodes[0].Time.Year() != 2026 {
		t.Errorf("nodes %+v", view.Nodes)
	}
	if len(view.FrontEnds) != 2 || view.FrontEnds[1].Address != s.frontEnds[0].URL {
		t.Errorf("front ends %+v", view.FrontEnds)
	}
}

func TestClusterStatus(t *testing.T) {
	s := start(t, "", 1, nil)
	view, err := s.ClusterStatus(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if view.Leader != "n1" || view.Term != 7 || len(view.Nodes) != 3 {
		t.Fatalf("%+v", view)
	}
	want := client.NodeView{ID: "n3", Incarnation: 2, State: "down", Suffrage: dems.Voter, Digest: dems.Digest{}.String(), Strikes: 1}
	check(t, err, want, view.Nodes[2])
}

func TestTransferLeadership(t *testing.T) {
	s := start(t, "", 1, nil)
	for _, test := range []struct{ to, want dems.NodeID }{{"n3", "n3"}, {"", "n2"}} {
		transferred, err := s.TransferLeadership(t.Context(), test.to)
		check(t, err, test.want, transferred.Leader)
	}
	_, err := s.TransferLeadership(t.Context(), "n9")
	wantError(t, err, dems.NotFound)
}

func TestCityLog(t *testing.T) {
	s := start(t, "TORM0001", 1, nil)
	for _, id := range []string{"TORM100519", "TORA100519", "TORE100519"} {
		if _, err := s.AddEvent(t.Context(), eventKey(t, dems.Seminar, id), 1); err != nil {
			t.Fatal(err)
		}
	}
	city := dems.City{'T', 'O', 'R'}
	var ids []string
	from := uint64(0)
	for {
		page, err := s.CityLog(t.Context(), city, from)
		if err != nil {
			t.Fatal(err)
		}
		if page.Total != 3 {
			t.Fatalf("total %d, want 3", page.Total)
		}
		if len(page.Records) == 0 {
			break
		}
		for _, line := range page.Records {
			var record struct{ Op, EventID string }
			if err := json.Unmarshal(line, &record); err != nil {
				t.Fatal(err)
			}
			ids = append(ids, record.Op+" "+record.EventID)
		}
		from += uint64(len(page.Records))
	}
	check(t, nil, []string{"addEvent TORM100519", "addEvent TORA100519", "addEvent TORE100519"}, ids)
	_, err := s.CityLog(t.Context(), dems.City{'X', 'Y', 'Z'}, 0)
	wantError(t, err, dems.NotFound)
}

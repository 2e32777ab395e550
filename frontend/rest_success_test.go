package frontend

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"dems"
)

func mustUser(text string) dems.UserID {
	user, ok := dems.DefaultCities().ParseUserID(text)
	if !ok {
		panic(text)
	}
	return user
}

func mustEvent(eventType dems.EventType, text string) dems.EventKey {
	id, ok := dems.DefaultCities().ParseEventID(text)
	if !ok {
		panic(text)
	}
	return dems.EventKey{Type: eventType, ID: id}
}

// transcript writes a response as text: status, headers in alphabetical order, body.
func transcript(response *http.Response, body string) string {
	var text strings.Builder
	fmt.Fprintln(&text, response.StatusCode)
	for _, name := range slices.Sorted(maps.Keys(response.Header)) {
		if name != "Content-Length" {
			fmt.Fprintf(&text, "%s: %s\n", name, strings.Join(response.Header[name], " | "))
		}
	}
	return text.String() + body
}

var (
	seminar    = mustEvent(dems.Seminar, "TORM100519")
	conference = mustEvent(dems.Conference, "MTLA110519")
	montrealer = mustUser("MTLC0001")
)

// TestSuccessfulOperations holds the golden text of every success, and the command that it came from.
func TestSuccessfulOperations(t *testing.T) {
	event := dems.EventView{Key: seminar, Capacity: 3}
	for _, test := range []struct {
		name, call string // call names one of validCalls
		result     dems.Result
		want       string
	}{
		{"created", "addEvent", dems.Result{Outcome: dems.Created, Event: event}, `201
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
Location: /v1/events/seminar/TORM100519
{"outcome":"created","event":{"eventID":"TORM100519","eventType":"seminar","city":"TOR","capacity":3,"booked":0,"available":3}}`},
		{"updated", "addEvent", dems.Result{Outcome: dems.Updated, Event: dems.EventView{Key: seminar, Capacity: 1_000_000, Booked: 1}}, `200
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"outcome":"updated","event":{"eventID":"TORM100519","eventType":"seminar","city":"TOR","capacity":1000000,"booked":1,"available":999999}}`},
		{"removed, with bookings", "removeEvent", dems.Result{Outcome: dems.Removed, Event: event, Affected: []dems.Affected{
			{Customer: montrealer, Outcome: dems.Rebooked, Event: mustEvent(dems.Seminar, "TORA100519")},
			{Customer: mustUser("OTWC0002"), Outcome: dems.Cancelled},
		}}, `200
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"outcome":"removed","event":{"eventID":"TORM100519","eventType":"seminar","city":"TOR","capacity":3,"booked":0,"available":3},"affected":[{"customerID":"MTLC0001","outcome":"rebooked","eventID":"TORA100519"},{"customerID":"OTWC0002","outcome":"cancelled"}]}`},
		{"removed, without bookings", "removeEvent", dems.Result{Outcome: dems.Removed, Event: event}, `200
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"outcome":"removed","event":{"eventID":"TORM100519","eventType":"seminar","city":"TOR","capacity":3,"booked":0,"available":3},"affected":[]}`},
		{"one event", "getEvent", dems.Result{Event: event}, `200
Cache-Control: no-store
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"event":{"eventID":"TORM100519","eventType":"seminar","city":"TOR","capacity":3,"booked":0,"available":3}}`},
		{"list", "listEventAvailability", dems.Result{Type: dems.Seminar, Events: []dems.EventView{event, {Key: mustEvent(dems.Seminar, "OTWE291224"), Capacity: 5, Booked: 5}}}, `200
Cache-Control: no-store
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"eventType":"seminar","events":[{"eventID":"TORM100519","eventType":"seminar","city":"TOR","capacity":3,"booked":0,"available":3},{"eventID":"OTWE291224","eventType":"seminar","city":"OTW","capacity":5,"booked":5,"available":0}]}`},
		{"empty list", "listEventAvailability", dems.Result{Type: dems.TradeShow}, `200
Cache-Control: no-store
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"eventType":"tradeshow","events":[]}`},
		{"booked", "bookEvent", dems.Result{Outcome: dems.Booked, Customer: montrealer, Booking: seminar}, `201
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
Location: /v1/customers/MTLC0001/bookings/TORM100519?eventType=seminar
{"outcome":"booked","booking":{"customerID":"MTLC0001","eventID":"TORM100519","eventType":"seminar"}}`},
		{"replayed", "bookEvent", dems.Result{Outcome: dems.Booked, Customer: montrealer, Booking: seminar, Replayed: true}, `201
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
Idempotency-Replayed: true
Location: /v1/customers/MTLC0001/bookings/TORM100519?eventType=seminar
{"outcome":"booked","booking":{"customerID":"MTLC0001","eventID":"TORM100519","eventType":"seminar"}}`},
		{"schedule", "getBookingSchedule", dems.Result{Customer: montrealer, Bookings: []dems.EventKey{seminar, conference}}, `200
Cache-Control: no-store
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"customerID":"MTLC0001","bookings":[{"eventID":"TORM100519","eventType":"seminar","city":"TOR"},{"eventID":"MTLA110519","eventType":"conference","city":"MTL"}]}`},
		{"empty schedule", "getBookingSchedule", dems.Result{Customer: montrealer}, `200
Cache-Control: no-store
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"customerID":"MTLC0001","bookings":[]}`},
		{"cancelled", "cancelEvent", dems.Result{Outcome: dems.Cancelled, Customer: montrealer, Booking: seminar}, `200
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"outcome":"cancelled","booking":{"customerID":"MTLC0001","eventID":"TORM100519","eventType":"seminar"}}`},
		{"swapped", "swapEvent", dems.Result{Outcome: dems.Swapped, Customer: montrealer, Booking: conference, Old: seminar}, `200
Content-Type: application/json
Dems-Sequence: 812
Dems-Votes: 2/3
{"outcome":"swapped","old":{"eventID":"TORM100519","eventType":"seminar"},"new":{"eventID":"MTLA110519","eventType":"conference"}}`},
		{"refused", "bookEvent", dems.Result{Code: dems.EventFull}, `409
Content-Type: application/problem+json
Dems-Sequence: 812
Dems-Votes: 2/3
{"type":"urn:dems:error:event_full","title":"Event full","status":409,"detail":"Every seat is taken; choose another event or ask again after a cancellation.","code":"event_full","sequence":812}`},
		{"refusal replayed", "swapEvent", dems.Result{Code: dems.SameEvent, Replayed: true}, `409
Content-Type: application/problem+json
Dems-Sequence: 812
Dems-Votes: 2/3
Idempotency-Replayed: true
{"type":"urn:dems:error:same_event","title":"Same event","status":409,"detail":"The old and the new event are the same; nothing needs to be done.","code":"same_event","sequence":812}`},
	} {
		t.Run(test.name, func(t *testing.T) {
			h := newRESTTest(&restFake{answer: func(context.Context, dems.Command) (Reply, error) {
				return Reply{Result: test.result, Sequence: 812, Agreeing: 2, Asked: 3}, nil
			}})
			response, body := send(t, h, validCalls[test.call])
			if got := transcript(response, body); got != test.want {
				t.Errorf("got\n%s\nwant\n%s", got, test.want)
			}
			if length := response.Header.Get("Content-Length"); length != fmt.Sprint(len(body)) {
				t.Errorf("Content-Length is %s for %d bytes", length, len(body))
			}
		})
	}
}

// TestCommands makes sure that every parameter reaches the cluster, in canonical form, by the right method.
func TestCommands(t *testing.T) {
	received := time.Date(2026, 5, 10, 13, 30, 0, 125_000_000, time.UTC)
	manager := mustUser("TORM2345")
	for _, test := range []struct {
		name   string
		call   call
		method string
		want   dems.Command
	}{
		{"add", call{method: "PUT", target: "/v1/events/%20Semi-nars%20/%20torm100519%09", user: " torm2345 ", body: ` { "capacity" : 1000000 } `},
			"Do", dems.Command{Op: dems.AddEvent, By: manager, Event: seminar, Capacity: 1_000_000}},
		{"add with a key", call{method: "PUT", target: "/v1/events/seminar/TORM100519", user: "TORM2345", body: `{"capacity":1}`,
			contentType: "Application/JSON; Charset=UTF-8", headers: []string{"Idempotency-Key", strings.Repeat("~", 128)}},
			"Do", dems.Command{Op: dems.AddEvent, By: manager, Event: seminar, Capacity: 1, Key: strings.Repeat("~", 128)}},
		{"remove", call{method: "DELETE", target: "/v1/events/SEMINAR/TORM100519", user: "TORM2345"},
			"Do", dems.Command{Op: dems.RemoveEvent, By: manager, Event: seminar}},
		{"remove, refusing", call{method: "DELETE", target: "/v1/events/SEMINAR/TORM100519?bookings=refuse", user: "TORM2345", chunked: true},
			"Do", dems.Command{Op: dems.RemoveEvent, By: manager, Event: seminar, Bookings: dems.Refuse}},
		{"one event", call{method: "GET", target: "/v1/events/seminars/TORM100519?", user: "TORM2345"},
			"Read", dems.Command{Op: dems.GetEvent, By: manager, Event: seminar}},
		{"list", call{method: "GET", target: "/v1/events/Trade%20Shows", user: "TORM2345", headers: []string{"Idempotency-Key", "ignored", "Idempotency-Key", "here"}},
			"Read", dems.Command{Op: dems.ListEventAvailability, By: manager, Event: dems.EventKey{Type: dems.TradeShow}}},
		{"book", call{method: "POST", target: "/v1/customers/mtlc0001/bookings", user: "TORM2345",
			body: `{"eventID":"torm100519","eventType":"\u0053eminar"}`, headers: []string{"Idempotency-Key", "k"}, chunked: true},
			"Do", dems.Command{Op: dems.BookEvent, By: manager, Customer: montrealer, Event: seminar, Key: "k"}},
		{"schedule", call{method: "GET", target: "/v1/customers/MTLC0001/bookings", user: "MTLC0001"},
			"Read", dems.Command{Op: dems.GetBookingSchedule, By: montrealer, Customer: montrealer}},
		{"cancel", call{method: "DELETE", target: "/v1/customers/MTLC0001/bookings/TORM100519?eventType=Seminars", user: "MTLC0001"},
			"Do", dems.Command{Op: dems.CancelEvent, By: montrealer, Customer: montrealer, Event: seminar}},
		{"cancel without a type", call{method: "DELETE", target: "/v1/customers/MTLC0001/bookings/TORM100519", user: "MTLC0001"},
			"Do", dems.Command{Op: dems.CancelEvent, By: montrealer, Customer: montrealer, Event: dems.EventKey{ID: seminar.ID}}},
		{"swap", validCalls["swapEvent"],
			"Do", dems.Command{Op: dems.SwapEvent, By: montrealer, Customer: montrealer, Event: conference, OldEvent: seminar}},
		{"HEAD", call{method: "HEAD", target: "/v1/events/seminar", user: "TORM2345"},
			"Read", dems.Command{Op: dems.ListEventAvailability, By: manager, Event: dems.EventKey{Type: dems.Seminar}}},
	} {
		t.Run(test.name, func(t *testing.T) {
			fake := new(restFake)
			if response, body := send(t, newRESTTest(fake), test.call); response.StatusCode > 299 {
				t.Fatalf("%d %s", response.StatusCode, body)
			}
			test.want.Time = received
			if got := fake.command(t); got != test.want {
				t.Errorf("command\n%+v, want\n%+v", got, test.want)
			}
			if got := fake.seen(); !slices.Equal(got, []string{test.method}) {
				t.Errorf("called %v, want %s", got, test.method)
			}
		})
	}
}

// TestExchangesAreNotMixed sends requests of every shape through one handler again and again: nothing of one may be
// seen in another, although buffers are used again.
func TestExchangesAreNotMixed(t *testing.T) {
	h := newRESTTest(new(restFake))
	first := make(map[string]string)
	for round := range 20 {
		for name, c := range validCalls {
			if name == "metrics" {
				continue
			}
			response, body := send(t, h, c)
			got := transcript(response, body)
			if round == 0 {
				first[name] = got
			} else if got != first[name] {
				t.Fatalf("%s: got\n%s\nfirst it was\n%s", name, got, first[name])
			}
			if _, problem := send(t, h, call{method: "PUT", target: "/v1/events/party/X", user: "y", body: `{"capacity":9}`}); !strings.Contains(problem, "invalid_user_id") {
				t.Fatal(problem)
			}
		}
	}
}

func TestLongList(t *testing.T) {
	events := make([]dems.EventView, 30_000)
	for i := range events {
		events[i] = dems.EventView{Key: seminar, Capacity: uint32(i + 1)}
	}
	h := newRESTTest(&restFake{answer: func(context.Context, dems.Command) (Reply, error) {
		return Reply{Result: dems.Result{Type: dems.Seminar, Events: events}, Sequence: 1, Agreeing: 3, Asked: 3}, nil
	}})
	response, body := send(t, h, validCalls["listEventAvailability"])
	if response.StatusCode != 200 || strings.Count(body, "TORM100519") != len(events) {
		t.Errorf("%d with %d events", response.StatusCode, strings.Count(body, "TORM100519"))
	}
	x := &exchange{output: make([]byte, maxRetainedBytes+1), input: make([]byte, maxRetainedBytes+1)}
	if x.release(); x.output != nil || x.input != nil {
		t.Error("large buffers were kept")
	}
}

func TestUnknownHeadersOfAnswers(t *testing.T) {
	h := newRESTTest(&restFake{answer: func(_ context.Context, command dems.Command) (Reply, error) {
		return Reply{Result: agreed(command).Result}, nil
	}})
	response, _ := send(t, h, validCalls["getBookingSchedule"])
	if response.Header["Dems-Sequence"] != nil || response.Header["Dems-Votes"] != nil {
		t.Errorf("headers of what is not known: %v", response.Header)
	}
}

// TestFailures makes sure of what the client learns when the cluster could not answer.
func TestFailures(t *testing.T) {
	secret := errors.New("secret 10.0.0.7")
	for _, test := range []struct {
		err         error
		write, read string
	}{
		{&dems.Error{Code: dems.Unavailable}, "unavailable", "unavailable"},
		{&dems.Error{Code: dems.NoMajority}, "no_majority", "no_majority"},
		{&dems.Error{Code: dems.Indeterminate}, "indeterminate", ""},
		{fmt.Errorf("wrapped: %w", &dems.Error{Code: dems.Unavailable, Detail: "Two of three nodes are down."}), "unavailable", "unavailable"},
		{context.DeadlineExceeded, "indeterminate", "unavailable"},
		{fmt.Errorf("wrapped: %w", context.Canceled), "indeterminate", "unavailable"},
		{secret, "internal", "internal"},
		{&dems.Error{Code: dems.Internal, Detail: secret.Error()}, "internal", "internal"},
		{&dems.Error{Code: dems.OK, Detail: secret.Error()}, "internal", "internal"},
		{&dems.Error{Code: 200, Detail: secret.Error()}, "internal", "internal"},
	} {
		for name, want := range map[string]string{"bookEvent": test.write, "getBookingSchedule": test.read, "getRegistry": test.read, "getCityLog": test.read} {
			if want == "" {
				continue
			}
			h := newRESTTest(&restFake{
				answer:   func(context.Context, dems.Command) (Reply, error) { return Reply{}, test.err },
				registry: func(context.Context) (dems.Registry, error) { return dems.Registry{}, test.err },
				cityLog: func(context.Context, dems.City, uint64) (dems.CityLogPage, error) {
					return dems.CityLogPage{}, test.err
				},
			})
			response, body := send(t, h, validCalls[name])
			if !strings.Contains(body, `"code":"`+want+`"`) || strings.Contains(body, "secret") {
				t.Errorf("%s, %v: %s, want %s", name, test.err, body, want)
			}
			if retry := response.Header.Get("Retry-After"); (retry == "1") != (want == "unavailable") {
				t.Errorf("%s, %v: Retry-After is %q", name, test.err, retry)
			}
		}
	}
}

// TestEveryRefusal has the cluster refuse every operation for every reason that it has.
func TestEveryRefusal(t *testing.T) {
	walk(t, newRESTTest(new(restFake)), func(name string, r *route, _ object) {
		for _, code := range refusalsOf(r.op) {
			if statusOf(code) == 400 {
				continue // what is malformed does not reach the cluster
			}
			h := newRESTTest(&restFake{answer: func(context.Context, dems.Command) (Reply, error) {
				return Reply{Result: dems.Result{Code: code}, Sequence: 9, Agreeing: 3, Asked: 3}, nil
			}})
			response, body := send(t, h, validCalls[name])
			if response.StatusCode != statusOf(code) || !strings.Contains(body, `"code":"`+code.String()+`","sequence":9}`) {
				t.Errorf("%s refused as %s: %d %s", name, code, response.StatusCode, body)
			}
		}
	})
}

package conformance

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"

	"dems"
	"dems/internal/onenode"
)

func TestMachine(t *testing.T) {
	machine, err := NewMachine()
	if err != nil {
		t.Fatal(err)
	}
	Run(t, machine)
	expectNothingLeft(t, machine)
}

// TestRESTOverMachine runs the cases through the real REST layer, with one bare machine instead of a cluster.
func TestRESTOverMachine(t *testing.T) {
	cluster, err := onenode.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	frontEnd, err := onenode.Start(cluster, "fe1")
	if err != nil {
		t.Fatal(err)
	}
	defer frontEnd.Close()
	target := REST{BaseURL: frontEnd.URL + "/"}
	Run(t, target)
	expectNothingLeft(t, target)
}

// expectNothingLeft shows that the runner removed what the cases added.
func expectNothingLeft(t *testing.T, target Target) {
	t.Helper()
	for _, eventType := range dems.EventTypes {
		answer, err := do(t, target, "TORM0001", Operation{"op": "listEventAvailability", "eventType": eventType.String()})
		if err != nil {
			t.Fatal(err)
		}
		if problem := different("body", map[string]any{"events": []any{}}, answer.Body); problem != "" {
			t.Error(problem)
		}
	}
}

// TestCases shows that the cases themselves are sound: named once, and every step wants something.
func TestCases(t *testing.T) {
	cases, err := Cases()
	if err != nil {
		t.Fatal(err)
	}
	seen, codes := map[string]bool{}, map[string]bool{}
	for _, c := range cases {
		if c.Name == "" || seen[c.Name] || len(c.Steps) == 0 {
			t.Errorf("case %q: no name, no steps, or a second one of that name", c.Name)
		}
		seen[c.Name] = true
		for i, step := range c.Steps {
			if _, ok := dems.ParseOp(step.Do.Text("op")); !ok || step.As == "" || step.Want.Status < 200 {
				t.Errorf("case %q, step %d: %+v", c.Name, i+1, step)
			}
			if _, ok := dems.ParseCode(codeOf(step.Want.Body)); codeOf(step.Want.Body) != "" && !ok {
				t.Errorf("case %q, step %d: unknown code %q", c.Name, i+1, codeOf(step.Want.Body))
			}
			codes[codeOf(step.Want.Body)] = true
		}
	}
	for code := dems.InvalidUserID; code <= dems.IdempotencyKeyReused; code++ {
		switch code {
		case dems.Unauthenticated, dems.NotFound, dems.MethodNotAllowed, dems.PayloadTooLarge, dems.UnsupportedMediaType:
		default:
			if !codes[code.String()] {
				t.Errorf("no case shows %s", code)
			}
		}
	}
}

func TestMismatch(t *testing.T) {
	yes, no := true, false
	for name, test := range map[string]struct {
		want   Want
		status int
		body   string
		differ string // "" where it matches
	}{
		"equal":                    {want: Want{Status: 200}, status: 200, body: `{"a":1}`},
		"another status":           {want: Want{Status: 201}, status: 200, body: `{}`, differ: "status 200"},
		"no HTTP, success":         {want: Want{Status: 201}, body: `{"outcome":"booked"}`},
		"no HTTP, refusal":         {want: Want{Status: 409}, body: `{"code":"event_full"}`},
		"no HTTP, refused instead": {want: Want{Status: 201}, body: `{"code":"event_full"}`, differ: "event_full"},
		"no HTTP, done instead":    {want: Want{Status: 409}, body: `{"outcome":"booked"}`, differ: "409"},
		"replayed":                 {want: Want{Status: 200, Replayed: &yes}, status: 200, body: `{}`, differ: "replayed"},
		"not replayed":             {want: Want{Status: 200, Replayed: &no}, status: 200, body: `{}`},
		"more keys":                {want: wanted(`{"a":1}`), status: 200, body: `{"a":1,"b":2}`},
		"a key missing":            {want: wanted(`{"a":1,"b":2}`), status: 200, body: `{"a":1}`, differ: "body.b is missing"},
		"null is not missing":      {want: wanted(`{"a":null}`), status: 200, body: `{}`, differ: "body.a is missing"},
		"another number":           {want: wanted(`{"a":1}`), status: 200, body: `{"a":2}`, differ: "body.a is 2"},
		"a number as text":         {want: wanted(`{"a":1}`), status: 200, body: `{"a":"1"}`, differ: `body.a is "1"`},
		"nested":                   {want: wanted(`{"a":{"b":[{"c":1}]}}`), status: 200, body: `{"a":{"b":[{"c":2,"d":3}]}}`, differ: "body.a.b[0].c"},
		"a shorter array":          {want: wanted(`{"a":[1,2]}`), status: 200, body: `{"a":[1]}`, differ: "want 2 elements"},
		"a longer array":           {want: wanted(`{"a":[1]}`), status: 200, body: `{"a":[1,2]}`, differ: "want 1 elements"},
		"an empty array":           {want: wanted(`{"a":[]}`), status: 200, body: `{"a":[]}`},
		"no array":                 {want: wanted(`{"a":[]}`), status: 200, body: `{"a":null}`, differ: "body.a is null"},
		"no object":                {want: wanted(`{"a":{}}`), status: 200, body: `{"a":[]}`, differ: "want an object"},
		"another order":            {want: wanted(`{"a":[1,2]}`), status: 200, body: `{"a":[2,1]}`, differ: "body.a[0]"},
	} {
		answer := Answer{Status: test.status}
		if err := decode([]byte(test.body), &answer.Body); err != nil {
			t.Fatal(err)
		}
		got := test.want.Mismatch(answer)
		if (got == "") != (test.differ == "") || !strings.Contains(got, test.differ) {
			t.Errorf("%s: %q, want %q", name, got, test.differ)
		}
	}
}

// wanted is a status of 200 with a body.
func wanted(body string) Want {
	want := Want{Status: 200}
	if err := decode([]byte(body), &want.Body); err != nil {
		panic(err)
	}
	return want
}

// scripted gives one answer to everything and notes what it was asked.
type scripted struct {
	answer Answer
	err    error
	asked  []string
}

func (s *scripted) Do(_ context.Context, as string, operation Operation) (Answer, error) {
	s.asked = append(s.asked, as+" "+describe(operation))
	return s.answer, s.err
}

// TestEveryAddedEventIsRemoved shows that a case cleans up behind itself in the event's own spelling and city.
func TestEveryAddedEventIsRemoved(t *testing.T) {
	target := &scripted{answer: Answer{Status: 201, Body: map[string]any{
		"event": map[string]any{"eventID": "MTLM100519", "eventType": "seminar"},
	}}}
	add := Operation{"op": "addEvent", "eventID": "mtlm100519", "eventType": "Seminars", "capacity": json.Number("1"), "key": "$RUN-1"}
	runCase(t, target, Case{Steps: []Step{
		{As: "MTLM0001", Do: add, Want: Want{Status: 201}}, {As: "MTLM0001", Do: add, Want: Want{Status: 201}},
	}})
	if len(target.asked) != 3 || target.asked[0] != target.asked[1] || strings.Contains(target.asked[0], "$RUN") {
		t.Errorf("asked %q", target.asked)
	}
	want := `MTLM9999 {"bookings":"cancel","eventID":"MTLM100519","eventType":"seminar","op":"removeEvent"}`
	if last := target.asked[len(target.asked)-1]; last != want {
		t.Errorf("last asked %s, want %s", last, want)
	}
	if add["key"] != "$RUN-1" {
		t.Error("running a case changed it")
	}
}

func TestRESTRequests(t *testing.T) {
	for _, test := range []struct{ operation, want, body string }{
		{`{"op":"addEvent","eventID":" torm100519","eventType":"Trade Shows","capacity":1.5}`, "PUT /v1/events/Trade%20Shows/%20torm100519", `{"capacity":1.5}`},
		{`{"op":"removeEvent","eventID":"TORM100519","eventType":"seminar"}`, "DELETE /v1/events/seminar/TORM100519", ""},
		{`{"op":"removeEvent","eventID":"TORM100519","eventType":"seminar","bookings":"a&b"}`, "DELETE /v1/events/seminar/TORM100519?bookings=a%26b", ""},
		{`{"op":"listEventAvailability","eventType":"a/b"}`, "GET /v1/events/a%2Fb", ""},
		{`{"op":"getEvent","eventID":"TORM100519","eventType":"seminar"}`, "GET /v1/events/seminar/TORM100519", ""},
		{`{"op":"bookEvent","customerID":"TORC0001","eventID":"TORM100519","eventType":"seminar"}`, "POST /v1/customers/TORC0001/bookings", `{"eventID":"TORM100519","eventType":"seminar"}`},
		{`{"op":"getBookingSchedule","customerID":"TORC0001"}`, "GET /v1/customers/TORC0001/bookings", ""},
		{`{"op":"cancelEvent","customerID":"TORC0001","eventID":"TORM100519","eventType":"seminar"}`, "DELETE /v1/customers/TORC0001/bookings/TORM100519?eventType=seminar", ""},
		{`{"op":"swapEvent","customerID":"TORC0001","newEventID":"A","newEventType":"B","oldEventID":"C","oldEventType":"D"}`, "POST /v1/customers/TORC0001/swaps", `{"newEventID":"A","newEventType":"B","oldEventID":"C","oldEventType":"D"}`},
	} {
		var operation Operation
		if err := decode([]byte(test.operation), &operation); err != nil {
			t.Fatal(err)
		}
		request, err := REST{BaseURL: "http://h"}.request(t.Context(), operation)
		if err != nil {
			t.Fatal(err)
		}
		body := make([]byte, max(0, request.ContentLength))
		if request.Body != nil {
			if _, err := request.Body.Read(body); err != nil {
				t.Fatal(err)
			}
		}
		if got := request.Method + " " + request.URL.RequestURI(); got != test.want || string(body) != test.body {
			t.Errorf("%s is %s %s, want %s %s", test.operation, got, body, test.want, test.body)
		}
	}
	if _, err := (REST{}).Do(t.Context(), "TORM0001", Operation{"op": "fly"}); err == nil {
		t.Error("an operation that does not exist has a request")
	}
}

func TestRESTRefusesAnswersThatContradictThemselves(t *testing.T) {
	for name, handler := range map[string]http.HandlerFunc{
		"no JSON": func(w http.ResponseWriter, _ *http.Request) { w.WriteHeader(http.StatusBadGateway) },
		"a problem of another type": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"code":"event_full","status":409}`))
		},
		"a problem with another status": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/problem+json")
			w.WriteHeader(http.StatusConflict)
			_, _ = w.Write([]byte(`{"code":"event_full","status":404}`))
		},
		"two values": func(w http.ResponseWriter, _ *http.Request) {
			w.Header().Set("Content-Type", "application/json")
			_, _ = w.Write([]byte(`{}{}`))
		},
	} {
		server := httptest.NewServer(handler)
		_, err := REST{BaseURL: server.URL}.Do(t.Context(), "TORM0001", Operation{"op": "getBookingSchedule", "customerID": "TORC0001"})
		if err == nil || errors.Is(err, context.Canceled) {
			t.Errorf("%s: %v", name, err)
		}
		server.Close()
	}
}

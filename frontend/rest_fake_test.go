package frontend

import (
	"context"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	"dems"
)

// restFake is a cluster whose every answer the test decides. The zero restFake agrees to everything.
type restFake struct {
	unknown  bool // the cities are not known yet
	registry func(context.Context) (dems.Registry, error)
	status   ClusterStatus
	transfer func(context.Context, dems.NodeID) error
	cityLog  func(context.Context, dems.City, uint64) (dems.CityLogPage, error)
	incident func(context.Context, uint64) ([]dems.Incident, error)
	replace  func(context.Context, dems.NodeID) error
	inject   func(context.Context, dems.NodeID, dems.Fault) error
	end      func(context.Context) error
	backup   func(context.Context, func(Backup) (io.Writer, error)) error
	checks   []Check
	answer   func(context.Context, dems.Command) (Reply, error)

	mu       sync.Mutex
	commands []dems.Command // that reached Do or Read
	calls    []string       // methods that were called, but Cities
}

func (f *restFake) called(method string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.calls = append(f.calls, method)
}

func (f *restFake) seen() []string {
	f.mu.Lock()
	defer f.mu.Unlock()
	return append([]string(nil), f.calls...)
}

func (f *restFake) command(t *testing.T) dems.Command {
	t.Helper()
	f.mu.Lock()
	defer f.mu.Unlock()
	if len(f.commands) != 1 {
		t.Fatalf("%d commands reached the cluster, want 1", len(f.commands))
	}
	return f.commands[0]
}

func (f *restFake) Cities(ctx context.Context) (dems.Cities, bool) {
	if f.unknown {
		<-ctx.Done()
	}
	return dems.DefaultCities(), !f.unknown
}

func (f *restFake) operate(ctx context.Context, method string, command dems.Command) (Reply, error) {
	f.called(method)
	f.mu.Lock()
	f.commands = append(f.commands, command)
	f.mu.Unlock()
	if f.answer != nil {
		return f.answer(ctx, command)
	}
	return agreed(command), nil
}

func (f *restFake) Do(ctx context.Context, command dems.Command) (Reply, error) {
	return f.operate(ctx, "Do", command)
}

func (f *restFake) Read(ctx context.Context, command dems.Command) (Reply, error) {
	return f.operate(ctx, "Read", command)
}

func (f *restFake) Registry(ctx context.Context) (dems.Registry, error) {
	f.called("Registry")
	if f.registry != nil {
		return f.registry(ctx)
	}
	return dems.Registry{Cities: dems.DefaultCities()}, nil
}

func (f *restFake) Status(context.Context) ClusterStatus {
	f.called("Status")
	return f.status
}

func (f *restFake) Transfer(ctx context.Context, to dems.NodeID) error {
	f.called("Transfer")
	if f.transfer != nil {
		return f.transfer(ctx, to)
	}
	return nil
}

func (f *restFake) CityLog(ctx context.Context, city dems.City, first uint64) (dems.CityLogPage, error) {
	f.called("CityLog")
	if f.cityLog != nil {
		return f.cityLog(ctx, city, first)
	}
	return dems.CityLogPage{First: first, Total: first + 1, Records: []byte(`{"op":"bookEvent"}` + "\n")}, nil
}

func (f *restFake) Incidents(ctx context.Context, from uint64) ([]dems.Incident, error) {
	f.called("Incidents")
	if f.incident != nil {
		return f.incident(ctx, from)
	}
	return nil, nil
}

func (f *restFake) Replace(ctx context.Context, id dems.NodeID) error {
	f.called("Replace")
	if f.replace != nil {
		return f.replace(ctx, id)
	}
	return nil
}

func (f *restFake) Inject(ctx context.Context, id dems.NodeID, fault dems.Fault) error {
	f.called("Inject")
	if f.inject != nil {
		return f.inject(ctx, id, fault)
	}
	return nil
}

func (f *restFake) EndFaults(ctx context.Context) error {
	f.called("EndFaults")
	if f.end != nil {
		return f.end(ctx)
	}
	return nil
}

func (f *restFake) Backup(ctx context.Context, begin func(Backup) (io.Writer, error)) error {
	f.called("Backup")
	if f.backup != nil {
		return f.backup(ctx, begin)
	}
	to, err := begin(Backup{Origin: dems.Origin{Index: 812, Digest: dems.Digest{0xab}}, Node: "n2", Agreeing: 2, Asked: 3})
	if err != nil {
		return err
	}
	_, err = to.Write([]byte("DEMSBACK"))
	return err
}

func (f *restFake) Checks(context.Context) []Check {
	f.called("Checks")
	return f.checks
}

// agreed is a success that fits a command.
func agreed(command dems.Command) Reply {
	event := dems.EventView{Key: command.Event, Capacity: 3, Booked: 1}
	result := dems.Result{}
	switch command.Op {
	case dems.AddEvent:
		result.Outcome, result.Event = dems.Created, dems.EventView{Key: command.Event, Capacity: command.Capacity}
	case dems.RemoveEvent:
		result.Outcome, result.Event = dems.Removed, event
	case dems.ListEventAvailability:
		result.Type = command.Event.Type
	case dems.BookEvent:
		result.Outcome, result.Booking, result.Customer = dems.Booked, command.Event, command.Customer
	case dems.GetBookingSchedule:
		result.Customer = command.Customer
	case dems.CancelEvent:
		result.Outcome, result.Booking, result.Customer = dems.Cancelled, command.Event, command.Customer
		if result.Booking.Type == 0 {
			result.Booking.Type = dems.Seminar
		}
	case dems.SwapEvent:
		result.Outcome, result.Booking, result.Customer = dems.Swapped, command.Event, command.Customer
		result.Old = command.OldEvent
	case dems.GetEvent:
		result.Event = event
	}
	return Reply{Result: result, Sequence: 812, Agreeing: 2, Asked: 3}
}

// restTime is what the clock of tests shows.
var restTime = time.Date(2026, 5, 10, 9, 30, 0, 125_900_000, time.FixedZone("EDT", -4*3600))

func newRESTTest(fake *restFake, options ...func(*RESTConfig)) *restHandler {
	config := RESTConfig{Now: func() time.Time { return restTime }, EnableFaults: true}
	for _, option := range options {
		option(&config)
	}
	return newRESTHandler(fake, config)
}

// call is a request of a test.
type call struct {
	method, target string
	user           string // "" sends no Dems-User
	body           string // "" sends none
	contentType    string // "" sends application/json where there is a body
	headers        []string
	chunked        bool // the length of the body is not announced
}

func (c call) request() *http.Request {
	body := io.Reader(http.NoBody)
	if c.body != "" {
		body = strings.NewReader(c.body)
	}
	request := httptest.NewRequest(c.method, c.target, body)
	if c.chunked {
		request.ContentLength = -1
	}
	if c.user != "" {
		request.Header.Set("Dems-User", c.user)
	}
	if c.contentType != "" {
		request.Header.Set("Content-Type", c.contentType)
	} else if c.body != "" {
		request.Header.Set("Content-Type", "application/json")
	}
	for i := 0; i+1 < len(c.headers); i += 2 {
		request.Header.Add(c.headers[i], c.headers[i+1])
	}
	return request
}

// send sends a request straight to the handler, makes sure that the response is one that openapi.json describes, and
// returns it with its body.
func send(t *testing.T, h *restHandler, c call) (*http.Response, string) {
	t.Helper()
	recorder := httptest.NewRecorder()
	h.ServeHTTP(recorder, c.request())
	response := recorder.Result()
	body := recorder.Body.String()
	checkDocumented(t, h, c, response, body)
	return response, body
}

// The requests that succeed, one for each route, by the name of the operation in openapi.json.
var validCalls = map[string]call{
	"addEvent":              {method: "PUT", target: "/v1/events/seminar/TORM100519", user: "TORM2345", body: `{"capacity":3}`},
	"removeEvent":           {method: "DELETE", target: "/v1/events/seminar/TORM100519?bookings=cancel", user: "TORM2345"},
	"getEvent":              {method: "GET", target: "/v1/events/seminar/TORM100519", user: "TORM2345"},
	"listEventAvailability": {method: "GET", target: "/v1/events/seminar", user: "TORM2345"},
	"bookEvent": {method: "POST", target: "/v1/customers/MTLC0001/bookings", user: "MTLC0001",
		body: `{"eventType":"seminar","eventID":"TORM100519"}`},
	"getBookingSchedule": {method: "GET", target: "/v1/customers/MTLC0001/bookings", user: "MTLC0001"},
	"cancelEvent":        {method: "DELETE", target: "/v1/customers/MTLC0001/bookings/TORM100519?eventType=seminar", user: "MTLC0001"},
	"swapEvent": {method: "POST", target: "/v1/customers/MTLC0001/swaps", user: "MTLC0001",
		body: `{"newEventID":"MTLA110519","newEventType":"conference","oldEventID":"TORM100519","oldEventType":"seminar"}`},
	"getRegistry":        {method: "GET", target: "/v1/registry"},
	"getCluster":         {method: "GET", target: "/v1/cluster"},
	"transferLeadership": {method: "POST", target: "/v1/cluster/leader", body: `{"to":"n2"}`},
	"replaceNode":        {method: "POST", target: "/v1/cluster/nodes/n2/replace"},
	"getIncidents":       {method: "GET", target: "/v1/incidents?from=7"},
	"injectFault":        {method: "POST", target: "/v1/faults", body: `{"node":"n2","kind":"slow","requests":3,"milliseconds":200}`},
	"endFaults":          {method: "DELETE", target: "/v1/faults"},
	"getCityLog":         {method: "GET", target: "/v1/logs/TOR?from=7"},
	"saveSnapshot":       {method: "GET", target: "/v1/snapshot"},
	"getOpenAPI":         {method: "GET", target: "/openapi.json"},
	"live":               {method: "GET", target: "/livez"},
	"ready":              {method: "GET", target: "/readyz?verbose"},
	"metrics":            {method: "GET", target: "/metrics"},
}

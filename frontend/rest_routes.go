package frontend

import (
	"context"
	"net/http"

	"dems"
)

// access says who may ask for a route.
type access uint8

const (
	forAnyone    access = iota // what keeps the cluster running needs to be reachable
	forOperators               // anyone, as long as authentication is off
	forUsers                   // whoever asks says who it is
)

// route is one method of one path.
type route struct {
	method     string // GET stands for HEAD too
	path       string // template with variables in braces
	access     access
	fields     []fieldShape // of the body; nil: it takes none. At most as many as exchange.fields
	parameters []string     // of the query. At most as many as exchange.query
	op         dems.Op      // 0: not an operation
	drill      bool         // served only where RESTConfig.EnableFaults
	stream     bool         // may take longer than RESTConfig.Deadline: it writes its response itself, a piece at a time
	serve      func(h *restHandler, ctx context.Context, x *exchange) error
	metrics    *routeMetrics
}

// faultsPath is served only where RESTConfig.EnableFaults.
const faultsPath = "/v1/faults"

// routes returns everything that is served. The router tries them in this order: what is asked most often comes first.
// openapi.json describes each; a test holds the two together.
func routes() []route {
	text := func(names ...string) []fieldShape {
		fields := make([]fieldShape, len(names))
		for i, name := range names {
			fields[i].name = name
		}
		return fields
	}
	return []route{
		operation(dems.BookEvent, http.MethodPost, "/v1/customers/{customerID}/bookings",
			func(x *exchange, r *dems.Request) { r.EventType, r.EventID = x.fields[0], x.fields[1] },
			withFields(text("eventType", "eventID"))),
		operation(dems.GetBookingSchedule, http.MethodGet, "/v1/customers/{customerID}/bookings",
			func(*exchange, *dems.Request) {}),
		operation(dems.CancelEvent, http.MethodDelete, "/v1/customers/{customerID}/bookings/{eventID}",
			func(x *exchange, r *dems.Request) { r.EventID, r.EventType = x.variable("eventID"), x.parameter(0) },
			withParameters("eventType")),
		operation(dems.SwapEvent, http.MethodPost, "/v1/customers/{customerID}/swaps",
			func(x *exchange, r *dems.Request) {
				r.NewEventID, r.NewEventType = x.fields[0], x.fields[1]
				r.OldEventID, r.OldEventType = x.fields[2], x.fields[3]
			},
			withFields(text("newEventID", "newEventType", "oldEventID", "oldEventType"))),
		operation(dems.ListEventAvailability, http.MethodGet, "/v1/events/{eventType}",
			func(x *exchange, r *dems.Request) { r.EventType = x.variable("eventType") }),
		operation(dems.AddEvent, http.MethodPut, "/v1/events/{eventType}/{eventID}",
			func(x *exchange, r *dems.Request) { event(x, r); r.Capacity = x.fields[0] },
			withFields([]fieldShape{{name: "capacity", number: true}})),
		operation(dems.RemoveEvent, http.MethodDelete, "/v1/events/{eventType}/{eventID}",
			func(x *exchange, r *dems.Request) { event(x, r); r.Bookings = x.parameter(0) },
			withParameters("bookings")),
		operation(dems.GetEvent, http.MethodGet, "/v1/events/{eventType}/{eventID}", event),

		{method: http.MethodGet, path: "/v1/registry", serve: (*restHandler).registry},
		{method: http.MethodGet, path: "/v1/cluster", serve: (*restHandler).status},
		{method: http.MethodPost, path: "/v1/cluster/leader", serve: (*restHandler).transfer,
			access: forOperators, fields: text("to")},
		{method: http.MethodPost, path: "/v1/cluster/nodes/{id}/replace", serve: (*restHandler).replace, access: forOperators},
		{method: http.MethodGet, path: "/v1/incidents", serve: (*restHandler).incidents,
			access: forOperators, parameters: []string{"from"}},
		{method: http.MethodPost, path: faultsPath, serve: (*restHandler).inject, access: forOperators, drill: true,
			fields: faultFields},
		{method: http.MethodDelete, path: faultsPath, serve: (*restHandler).endFaults, access: forOperators, drill: true},
		{method: http.MethodGet, path: "/v1/logs/{city}", serve: (*restHandler).cityLog,
			access: forOperators, parameters: []string{"from"}},
		{method: http.MethodGet, path: "/v1/snapshot", serve: (*restHandler).snapshot, access: forOperators, stream: true},

		{method: http.MethodGet, path: "/openapi.json", serve: (*restHandler).openAPI},
		{method: http.MethodGet, path: "/livez", serve: (*restHandler).live},
		{method: http.MethodGet, path: "/readyz", serve: (*restHandler).ready, parameters: []string{"verbose"}},
		{method: http.MethodGet, path: "/metrics", serve: (*restHandler).showMetrics},
	}
}

// event reads the event that a path names.
func event(x *exchange, r *dems.Request) {
	r.EventType, r.EventID = x.variable("eventType"), x.variable("eventID")
}

func withFields(fields []fieldShape) func(*route) {
	return func(r *route) { r.fields = fields }
}

func withParameters(names ...string) func(*route) {
	return func(r *route) { r.parameters = names }
}

// operation returns the route of an operation; read copies its own parameters into the request.
func operation(
	op dems.Op, method, path string, read func(*exchange, *dems.Request), options ...func(*route),
) route {
	r := route{method: method, path: path, access: forUsers, op: op}
	for _, option := range options {
		option(&r)
	}
	r.serve = func(h *restHandler, ctx context.Context, x *exchange) error {
		request := dems.Request{Op: op.String(), By: x.by, CustomerID: x.variable("customerID")}
		read(x, &request)
		if op.Mutates() {
			request.Key, request.KeyGiven = x.key()
		}
		return h.operate(ctx, x, request)
	}
	return r
}

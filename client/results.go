package client

import (
	"net/http"
	"strconv"
	"strings"
	"time"

	"dems"
)

// Reply is what every answer carries besides its result.
type Reply struct {
	// Sequence is the log index that ordered the request; of a read, an index at which the answer holds.
	Sequence uint64 `json:"-"`
	// Agreeing of Asked nodes gave this answer.
	Agreeing int `json:"-"`
	Asked    int `json:"-"`
	// Replayed: the operation had been applied under this key before; this is what came of it then.
	Replayed bool `json:"-"`
	// Key is the idempotency key that was used; "" for reads.
	Key string `json:"-"`
	// Endpoint is the front end that answered.
	Endpoint string `json:"-"`
	// Body is the answer as it came.
	Body []byte `json:"-"`
}

// reply makes every result that embeds a Reply one that decode can fill.
func (r *Reply) reply() *Reply { return r }

// newReply reads the headers of an answer. A header that is absent leaves its field zero.
func newReply(r *request, answer *response) Reply {
	reply := Reply{
		Replayed: strings.EqualFold(answer.header.Get("Idempotency-Replayed"), "true"),
		Key:      r.key,
		Endpoint: answer.endpoint,
		Body:     answer.body,
	}
	reply.Sequence = headerNumber(answer.header, "Dems-Sequence")
	agreeing, asked, _ := strings.Cut(answer.header.Get("Dems-Votes"), "/")
	reply.Agreeing, _ = strconv.Atoi(agreeing)
	reply.Asked, _ = strconv.Atoi(asked)
	return reply
}

func headerNumber(header http.Header, name string) uint64 {
	number, _ := strconv.ParseUint(header.Get(name), 10, 64)
	return number
}

// Event is an event with its seats.
type Event struct {
	ID        dems.EventID   `json:"eventID"`
	Type      dems.EventType `json:"eventType"`
	City      dems.City      `json:"city"`
	Capacity  uint32         `json:"capacity"`
	Booked    uint32         `json:"booked"`
	Available uint32         `json:"available"`
}

// Key returns what identifies the event.
func (e Event) Key() dems.EventKey { return dems.EventKey{Type: e.Type, ID: e.ID} }

// Booking is a customer's booking of an event.
type Booking struct {
	Customer dems.UserID    `json:"customerID"`
	ID       dems.EventID   `json:"eventID"`
	Type     dems.EventType `json:"eventType"`
}

// Added is the result of AddEvent.
type Added struct {
	Reply
	Outcome string `json:"outcome"` // created or updated
	Event   Event  `json:"event"`
}

// Removed is the result of RemoveEvent.
type Removed struct {
	Reply
	Outcome  string     `json:"outcome"` // removed
	Event    Event      `json:"event"`   // as it was
	Affected []Affected `json:"affected"`
}

// Affected is what became of one booking of a removed event.
type Affected struct {
	Customer dems.UserID  `json:"customerID"`
	Outcome  string       `json:"outcome"` // rebooked or cancelled
	ID       dems.EventID `json:"eventID"` // where it was rebooked to
}

// Single is the result of GetEvent.
type Single struct {
	Reply
	Event Event `json:"event"`
}

// Availability is the result of ListEventAvailability.
type Availability struct {
	Reply
	Type   dems.EventType `json:"eventType"`
	Events []Event        `json:"events"` // in chronological order
}

// Booked is the result of BookEvent, and of CancelEvent.
type Booked struct {
	Reply
	Outcome string  `json:"outcome"` // booked or cancelled
	Booking Booking `json:"booking"`
}

// Schedule is the result of GetBookingSchedule.
type Schedule struct {
	Reply
	Customer dems.UserID `json:"customerID"`
	Bookings []Scheduled `json:"bookings"` // in chronological order
}

// Scheduled is one booking of a schedule.
type Scheduled struct {
	ID   dems.EventID   `json:"eventID"`
	Type dems.EventType `json:"eventType"`
	City dems.City      `json:"city"`
}

// Swapped is the result of SwapEvent.
type Swapped struct {
	Reply
	Outcome string   `json:"outcome"` // swapped
	Old     EventRef `json:"old"`
	New     EventRef `json:"new"`
}

// EventRef names an event.
type EventRef struct {
	ID   dems.EventID   `json:"eventID"`
	Type dems.EventType `json:"eventType"`
}

// RegistryView is the result of Registry.
type RegistryView struct {
	Reply
	dems.Registry
}

// ClusterView is the result of ClusterStatus: what the front end knows of the nodes.
type ClusterView struct {
	Reply
	Leader dems.NodeID `json:"leader"` // "" where none is known
	Term   uint64      `json:"term"`
	Nodes  []NodeView  `json:"nodes"`
}

// Transferred is the result of TransferLeadership.
type Transferred struct {
	Reply
	Leader dems.NodeID `json:"leader"` // the new one; "" where it is not known yet
}

// NodeView is what a front end knows of one node.
type NodeView struct {
	ID          dems.NodeID   `json:"id"`
	Incarnation uint64        `json:"incarnation"`
	State       string        `json:"state"`
	Suffrage    dems.Suffrage `json:"suffrage"`
	Applied     uint64        `json:"applied"` // log index
	Digest      string        `json:"digest"`  // of the state at Applied
	Strikes     int           `json:"strikes"`
}

// Replacing is the result of ReplaceNode.
type Replacing struct {
	Reply
	Outcome string      `json:"outcome"` // accepted
	Node    dems.NodeID `json:"node"`
}

// IncidentList is the result of Incidents, in log order.
type IncidentList struct {
	Reply
	Incidents []Incident `json:"incidents"`
}

// Incident is something that happened to the cluster. What is empty is not known, or there is no such thing.
type Incident struct {
	Sequence    uint64      `json:"sequence"` // log index; incidents that come about together share it
	Time        time.Time   `json:"time"`
	Kind        string      `json:"kind"`
	Node        dems.NodeID `json:"node,omitempty"` // whom it is about
	Incarnation uint64      `json:"incarnation,omitempty"`
	By          string      `json:"by,omitempty"`       // the node or front end that says so
	Index       uint64      `json:"index,omitempty"`    // log index of the evidence
	Expected    string      `json:"expected,omitempty"` // what the majority has there
	Answered    string      `json:"answered,omitempty"` // what the node has there
	Detail      string      `json:"detail,omitempty"`   // a sentence for people
}

// Injected is the result of InjectFault.
type Injected struct {
	Reply
	Outcome            string      `json:"outcome"` // injected
	Node               dems.NodeID `json:"node"`
	Kind               string      `json:"kind"`
	Requests           int         `json:"requests"`           // 0: no limit
	Milliseconds       int64       `json:"milliseconds"`       // of a slow node or network
	JitterMilliseconds int64       `json:"jitterMilliseconds"` // of a slow network
	Peers              []string    `json:"peers"`              // of a fault of the network; none: everybody
	Direction          string      `json:"direction"`          // of a fault of the network: incoming, outgoing or both
	LastsMilliseconds  int64       `json:"lastsMilliseconds"`  // 0: until it is ended
}

// FaultsEnded is the result of EndFaults.
type FaultsEnded struct {
	Reply
	Outcome string `json:"outcome"` // ended
}

// CityLogPage is the result of CityLog.
type CityLogPage struct {
	Reply
	First   uint64   // number of the first record, counted from 0
	Total   uint64   // how many records the log has
	Records [][]byte // a JSON object each
}

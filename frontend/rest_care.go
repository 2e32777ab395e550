package frontend

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"time"

	"dems"
)

// incidentsBody is the body of GET /v1/incidents.
type incidentsBody struct {
	Incidents []incidentBody `json:"incidents"`
}

type incidentBody struct {
	Sequence    uint64            `json:"sequence"`
	Time        time.Time         `json:"time"`
	Kind        dems.IncidentKind `json:"kind"`
	Node        dems.NodeID       `json:"node,omitempty"`
	Incarnation uint64            `json:"incarnation,omitempty"`
	By          string            `json:"by,omitempty"`
	Index       uint64            `json:"index,omitempty"`
	Expected    string            `json:"expected,omitempty"`
	Answered    string            `json:"answered,omitempty"`
	Detail      string            `json:"detail,omitempty"`
}

// incidents serves what happened to the cluster, from a log index on.
func (h *restHandler) incidents(ctx context.Context, x *exchange) error {
	from := uint64(0)
	if x.given != 0 {
		var err error
		if from, err = strconv.ParseUint(x.query[0], 10, 64); err != nil {
			return malformed("from is the smallest sequence that is asked for, a whole number.")
		}
	}
	incidents, err := h.cluster.Incidents(ctx, from)
	if err != nil {
		return outOfTime(err, false)
	}
	body := incidentsBody{Incidents: make([]incidentBody, len(incidents))}
	for i, incident := range incidents {
		body.Incidents[i] = incidentBody(incident)
		body.Incidents[i].Time = incident.Time.UTC()
	}
	return x.marshal(body)
}

// replace has a node removed and added again. It answers when that is decided: the rest takes a while and shows in
// GET /v1/cluster.
func (h *restHandler) replace(ctx context.Context, x *exchange) error {
	id, err := knownName(x.variable("id"))
	if err != nil {
		return err
	}
	if err := h.cluster.Replace(ctx, id); err != nil {
		return outOfTime(err, true)
	}
	if err := x.marshal(struct {
		Outcome string      `json:"outcome"`
		Node    dems.NodeID `json:"node"`
	}{"accepted", id}); err != nil {
		return err
	}
	x.status = http.StatusAccepted
	return nil
}

// faultBody is the body of a response to POST /v1/faults.
type faultBody struct {
	Outcome            string      `json:"outcome"`
	Node               dems.NodeID `json:"node"`
	Kind               string      `json:"kind"`
	Requests           int         `json:"requests,omitempty"`
	Milliseconds       int64       `json:"milliseconds,omitempty"`
	JitterMilliseconds int64       `json:"jitterMilliseconds,omitempty"`
	Peers              []string    `json:"peers,omitempty"`
	Direction          string      `json:"direction,omitempty"` // of a fault of the network
	LastsMilliseconds  int64       `json:"lastsMilliseconds,omitempty"`
}

// faultFields are the fields of the body of POST /v1/faults, in the order in which readFault reads them, behind the node.
var faultFields = []fieldShape{
	{name: "node"}, {name: "kind"}, {name: "requests", number: true}, {name: "milliseconds", number: true},
	{name: "jitterMilliseconds", number: true}, {name: "peers", list: true}, {name: "direction"}, {name: "lastsMilliseconds", number: true},
}

// inject makes the node that the body names, or its network, misbehave.
func (h *restHandler) inject(ctx context.Context, x *exchange) error {
	fault, problem := readFault([7]string(x.fields[1:]))
	if problem != nil {
		return problem
	}
	if x.fields[0] == "" {
		return malformed("Name the node that is to misbehave.")
	}
	id, err := knownName(x.fields[0])
	if err != nil {
		return err
	}
	if err := h.cluster.Inject(ctx, id, fault); err != nil {
		return outOfTime(err, true)
	}
	body := faultBody{
		Outcome: "injected", Node: id, Kind: fault.Kind.String(), Requests: fault.Requests, Milliseconds: fault.Delay.Milliseconds(),
		JitterMilliseconds: fault.Jitter.Milliseconds(), Peers: fault.Peers, LastsMilliseconds: fault.Lasts.Milliseconds(),
	}
	if fault.Kind.OfNetwork() {
		body.Direction = fault.Direction.String()
	}
	return x.marshal(body)
}

// readFault reads a fault from the values of all of faultFields but the first. What is left out is "".
func readFault(values [7]string) (fault dems.Fault, problem *dems.Error) {
	kind, requests, peers, direction := values[0], values[1], values[4], values[5]
	var ok bool
	if fault.Kind, ok = dems.ParseFaultKind(kind); !ok {
		fault.Kind = dems.FaultKind(255) // whose check says which kinds there are
	}
	if requests != "" {
		if fault.Requests, ok = positive(requests, dems.MaxFaultRequests); !ok {
			return fault, malformed("requests is a whole number from 1 to %d; leave it out for no limit.", dems.MaxFaultRequests)
		}
	}
	for _, duration := range []struct {
		name, value string
		most        time.Duration
		field       *time.Duration
	}{
		{"milliseconds", values[2], dems.MaxFaultDelay, &fault.Delay},
		{"jitterMilliseconds", values[3], dems.MaxFaultDelay, &fault.Jitter},
		{"lastsMilliseconds", values[6], dems.MaxFaultLasts, &fault.Lasts},
	} {
		if duration.value == "" {
			continue
		}
		milliseconds, ok := positive(duration.value, int(duration.most.Milliseconds()))
		if !ok {
			return fault, malformed("%s is a whole number from 1 to %d.", duration.name, duration.most.Milliseconds())
		}
		*duration.field = time.Duration(milliseconds) * time.Millisecond
	}
	for peer := range strings.Lines(peers) {
		fault.Peers = append(fault.Peers, strings.TrimSuffix(peer, "\n"))
	}
	if direction != "" {
		if fault.Direction, ok = dems.ParseDirection(direction); !ok {
			return fault, malformed("The direction is incoming, outgoing or both; leave it out for both.")
		}
	}
	if text := fault.Check(); text != "" {
		return fault, malformed("%s", text)
	}
	return fault, nil
}

// positive reads a number from 1 to a limit, in plain digits.
func positive(text string, limit int) (int, bool) {
	number, err := strconv.ParseUint(text, 10, 31)
	return int(number), err == nil && number >= 1 && int(number) <= limit
}

// endFaults has all nodes answer as they should again.
func (h *restHandler) endFaults(ctx context.Context, x *exchange) error {
	if err := h.cluster.EndFaults(ctx); err != nil {
		return outOfTime(err, true)
	}
	return x.marshal(struct {
		Outcome string `json:"outcome"`
	}{"ended"})
}

// knownName returns a node's ID, or NotFound where no node can be called that.
func knownName(text string) (dems.NodeID, error) {
	if !dems.ValidName(text) {
		return "", &dems.Error{Code: dems.NotFound, Detail: fmt.Sprintf("There is no node %s; GET /v1/cluster lists the nodes.", shown(text))}
	}
	return dems.NodeID(text), nil
}

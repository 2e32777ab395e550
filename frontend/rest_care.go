package frontend

import (
	"context"
	"fmt"
	"net/http"
	"strconv"
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
	Outcome      string      `json:"outcome"`
	Node         dems.NodeID `json:"node"`
	Kind         string      `json:"kind"`
	Requests     int         `json:"requests,omitempty"`
	Milliseconds int64       `json:"milliseconds,omitempty"`
}

// inject makes the node that the body names misbehave.
func (h *restHandler) inject(ctx context.Context, x *exchange) error {
	fault, problem := readFault(x.fields[1], x.fields[2], x.fields[3])
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
	return x.marshal(faultBody{"injected", id, fault.Kind.String(), fault.Requests, fault.Delay.Milliseconds()})
}

// readFault reads the fields of a fault. Numbers that are left out are "".
func readFault(kind, requests, milliseconds string) (fault dems.Fault, problem *dems.Error) {
	var ok bool
	if fault.Kind, ok = dems.ParseFaultKind(kind); !ok {
		return fault, malformed("The kind is wrong-results, wrong-state, slow or mute.")
	}
	if requests != "" {
		if fault.Requests, ok = positive(requests, dems.MaxFaultRequests); !ok {
			return fault, malformed("requests is a whole number from 1 to %d; leave it out for no limit.", dems.MaxFaultRequests)
		}
	}
	if milliseconds != "" {
		delay, ok := positive(milliseconds, int(dems.MaxFaultDelay.Milliseconds()))
		if !ok {
			return fault, malformed("milliseconds is a whole number from 1 to %d.", dems.MaxFaultDelay.Milliseconds())
		}
		fault.Delay = time.Duration(delay) * time.Millisecond
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

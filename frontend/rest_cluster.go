package frontend

import (
	"context"
	"encoding/json"
	"errors"
	"net/http"
	"strconv"
	"time"

	"dems"
)

// registryBody is the body of GET /v1/registry.
type registryBody struct {
	Cities    []dems.NamedCity   `json:"cities"`
	Nodes     []registrationBody `json:"nodes"`
	FrontEnds []registrationBody `json:"frontEnds"`
}

type registrationBody struct {
	ID          string    `json:"id"`
	Address     string    `json:"address"`
	Version     string    `json:"version"`
	Registered  time.Time `json:"registered"`
	Incarnation uint64    `json:"incarnation,omitempty"`
}

// registry serves what the central repository knows.
func (h *restHandler) registry(ctx context.Context, x *exchange) error {
	registry, err := h.cluster.Registry(ctx)
	if err != nil {
		return outOfTime(err, false)
	}
	registrations := func(list []dems.Registration) []registrationBody {
		bodies := make([]registrationBody, len(list))
		for i, r := range list {
			bodies[i] = registrationBody{r.ID, r.Address, r.Version, r.Time.UTC(), r.Incarnation}
		}
		return bodies
	}
	return x.marshal(registryBody{
		Cities:    append([]dems.NamedCity{}, registry.Cities...),
		Nodes:     registrations(registry.Nodes),
		FrontEnds: registrations(registry.FrontEnds),
	})
}

// clusterBody is the body of GET /v1/cluster.
type clusterBody struct {
	Leader dems.NodeID `json:"leader"`
	Term   uint64      `json:"term"`
	Nodes  []nodeBody  `json:"nodes"`
}

type nodeBody struct {
	ID          dems.NodeID   `json:"id"`
	Incarnation uint64        `json:"incarnation"`
	State       string        `json:"state"`
	Suffrage    dems.Suffrage `json:"suffrage"`
	Applied     uint64        `json:"applied"`
	Digest      dems.Digest   `json:"digest"`
	Strikes     int           `json:"strikes"`
}

// status serves what this front end knows of the nodes.
func (h *restHandler) status(ctx context.Context, x *exchange) error {
	status := h.cluster.Status(ctx)
	body := clusterBody{Leader: status.Leader, Term: status.Term, Nodes: make([]nodeBody, len(status.Nodes))}
	for i, node := range status.Nodes {
		body.Nodes[i] = nodeBody(node)
	}
	return x.marshal(body)
}

// transfer hands leadership over to the node that the body names, or to any other.
func (h *restHandler) transfer(ctx context.Context, x *exchange) error {
	to := dems.NodeID(x.fields[0])
	unknown := &dems.Error{Code: dems.NotFound, Detail: "No node has that ID; GET /v1/cluster lists the nodes."}
	if to != "" && !dems.ValidName(string(to)) {
		return unknown
	}
	if err := h.cluster.Transfer(ctx, to); err != nil {
		if failure, ok := errors.AsType[*dems.Error](err); ok && failure.Code == dems.NotFound {
			return unknown
		}
		return outOfTime(err, true)
	}
	if to == "" {
		to = h.cluster.Status(ctx).Leader
	}
	return x.marshal(struct {
		Leader dems.NodeID `json:"leader"`
	}{to})
}

// cityLog serves a page of a city's ordered log records, from a record's number on.
func (h *restHandler) cityLog(ctx context.Context, x *exchange) error {
	first := uint64(0)
	if x.given != 0 {
		var err error
		if first, err = strconv.ParseUint(x.query[0], 10, 64); err != nil {
			return malformed("from is the number of a record, counted from 0.")
		}
	}
	cities, known := h.cluster.Cities(ctx)
	if !known {
		return &dems.Error{Code: dems.Unavailable}
	}
	city, ok := dems.ParseCity(x.variable("city"))
	if !ok || !cities.Has(city) {
		return &dems.Error{Code: dems.NotFound, Detail: "The cluster has no such city; GET /v1/registry lists the cities."}
	}
	page, err := h.cluster.CityLog(ctx, city, first)
	if err != nil {
		return outOfTime(err, false)
	}
	x.header["Content-Type"] = linesContentType
	x.header["Cache-Control"] = noStore
	x.header["Dems-Log-First"] = []string{strconv.FormatUint(page.First, 10)}
	x.header["Dems-Log-Total"] = []string{strconv.FormatUint(page.Total, 10)}
	x.output = append(x.output, page.Records...)
	return nil
}

// marshal makes a value the response.
func (x *exchange) marshal(body any) error {
	data, err := json.Marshal(body)
	if err != nil {
		return err
	}
	x.status = http.StatusOK
	x.header["Content-Type"] = jsonContentType
	x.header["Cache-Control"] = noStore
	x.output = append(x.output, data...)
	return nil
}

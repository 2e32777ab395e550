package client

import (
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"
	"time"

	"dems"
)

// Incidents returns what happened to the cluster from a sequence on, as a majority of the nodes has it. To follow, ask again
// from the last sequence plus 1. It needs no identity.
func (c *Client) Incidents(ctx context.Context, from uint64) (*IncidentList, error) {
	list := new(IncidentList)
	r := &request{method: http.MethodGet, path: fmt.Sprintf("/v1/incidents?from=%d", from), accept: jsonType}
	if err := c.fetch(ctx, r, list); err != nil {
		return nil, err
	}
	return list, nil
}

// ReplaceNode has a node removed, emptied and added again. It returns when that is decided; ClusterStatus shows how far it
// is. While front ends are certainly not able to take it, it is sent again until the time is over. Once it may have been taken
// it is not: asking twice might replace the node twice. The error is Indeterminate then; look at the cluster.
func (c *Client) ReplaceNode(ctx context.Context, id dems.NodeID) (*Replacing, error) {
	if !dems.ValidName(string(id)) {
		return nil, noSuchNode(id)
	}
	r := &request{
		method: http.MethodPost, path: "/v1/cluster/nodes/" + url.PathEscape(string(id)) + "/replace", accept: jsonType,
		mutates: true, once: true,
	}
	replacing := new(Replacing)
	if err := c.fetch(ctx, r, replacing); err != nil {
		return nil, err
	}
	return replacing, nil
}

// InjectFault makes a node, or its network, misbehave for a drill; NotFound where the cluster was not started for drills. Like
// ReplaceNode it is not sent again once it may have been taken. Durations are in whole milliseconds.
func (c *Client) InjectFault(ctx context.Context, id dems.NodeID, fault dems.Fault) (*Injected, error) {
	switch problem := fault.Check(); {
	case problem != "":
		return nil, &Error{Code: dems.MalformedRequest, Detail: problem}
	case fault.Kind == dems.NoFault:
		return nil, &Error{Code: dems.MalformedRequest, Detail: "No fault is none; end all faults instead."}
	case fault.Delay%time.Millisecond != 0 || fault.Jitter%time.Millisecond != 0 || fault.Lasts%time.Millisecond != 0:
		return nil, &Error{Code: dems.MalformedRequest, Detail: "Delays, and how long a fault lasts, are in whole milliseconds."}
	case !dems.ValidName(string(id)):
		return nil, noSuchNode(id)
	}
	asked := faultRequest{
		Node: id, Kind: fault.Kind.String(), Requests: fault.Requests, Milliseconds: fault.Delay.Milliseconds(),
		JitterMilliseconds: fault.Jitter.Milliseconds(), Peers: fault.Peers, LastsMilliseconds: fault.Lasts.Milliseconds(),
	}
	if fault.Direction != dems.BothWays {
		asked.Direction = fault.Direction.String()
	}
	body, err := json.Marshal(asked)
	if err != nil {
		return nil, &Error{Code: dems.MalformedRequest, Detail: "The fault cannot be sent.", Err: err}
	}
	r := &request{method: http.MethodPost, path: "/v1/faults", accept: jsonType, body: body, mutates: true, once: true}
	injected := new(Injected)
	if err := c.fetch(ctx, r, injected); err != nil {
		return nil, err
	}
	return injected, nil
}

// faultRequest is the body that InjectFault sends.
type faultRequest struct {
	Node               dems.NodeID `json:"node"`
	Kind               string      `json:"kind"`
	Requests           int         `json:"requests,omitempty"`
	Milliseconds       int64       `json:"milliseconds,omitempty"`
	JitterMilliseconds int64       `json:"jitterMilliseconds,omitempty"`
	Peers              []string    `json:"peers,omitempty"`
	Direction          string      `json:"direction,omitempty"`
	LastsMilliseconds  int64       `json:"lastsMilliseconds,omitempty"`
}

// EndFaults ends all faults on all nodes that can be reached; NotFound where the cluster was not started for drills.
func (c *Client) EndFaults(ctx context.Context) (*FaultsEnded, error) {
	r := &request{method: http.MethodDelete, path: "/v1/faults", accept: jsonType, mutates: true}
	ended := new(FaultsEnded)
	if err := c.fetch(ctx, r, ended); err != nil {
		return nil, err
	}
	return ended, nil
}

// noSuchNode is the error for what cannot be a node's ID, and must not become a part of an address.
func noSuchNode(id dems.NodeID) *Error {
	return &Error{Code: dems.NotFound, Detail: fmt.Sprintf("There is no node %.40q; look at the cluster for the nodes.", string(id))}
}

package client

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"net/http"
	"net/url"

	"dems"
)

// Registry returns what the central repository knows: cities, nodes and front ends. It needs no identity.
func (c *Client) Registry(ctx context.Context) (*RegistryView, error) {
	view := new(RegistryView)
	if err := c.fetch(ctx, &request{method: http.MethodGet, path: "/v1/registry", accept: jsonType}, view); err != nil {
		return nil, err
	}
	if c.config.LearnEndpoints {
		addresses := make([]string, len(view.FrontEnds))
		for i, frontEnd := range view.FrontEnds {
			addresses[i] = frontEnd.Address
		}
		c.endpoints.learn(addresses)
	}
	return view, nil
}

// ClusterStatus returns what a front end knows of the nodes. It needs no identity.
func (c *Client) ClusterStatus(ctx context.Context) (*ClusterView, error) {
	view := new(ClusterView)
	if err := c.fetch(ctx, &request{method: http.MethodGet, path: "/v1/cluster", accept: jsonType}, view); err != nil {
		return nil, err
	}
	return view, nil
}

// TransferLeadership hands leadership over to a node; "" is any other than the leader.
func (c *Client) TransferLeadership(ctx context.Context, to dems.NodeID) (*Transferred, error) {
	body, err := json.Marshal(struct {
		To dems.NodeID `json:"to,omitempty"`
	}{to})
	if err != nil {
		return nil, &Error{Code: dems.MalformedRequest, Detail: "The node cannot be named.", Err: err}
	}
	r := &request{method: http.MethodPost, path: "/v1/cluster/leader", accept: jsonType, body: body, mutates: true}
	transferred := new(Transferred)
	if err := c.fetch(ctx, r, transferred); err != nil {
		return nil, err
	}
	return transferred, nil
}

// CityLog returns the records of a city's log from record number from on, as many as the front end gives at once: the
// next page begins at First + len(Records). A page without records is the end of the log as it is now.
func (c *Client) CityLog(ctx context.Context, city dems.City, from uint64) (*CityLogPage, error) {
	if _, ok := dems.ParseCity(city.String()); !ok {
		return nil, &Error{Code: dems.MalformedRequest, Detail: "A city is three letters, as in TOR."}
	}
	r := &request{
		method: http.MethodGet,
		path:   fmt.Sprintf("/v1/logs/%s?from=%d", url.PathEscape(city.String()), from),
		accept: linesType,
	}
	answer, err := c.do(ctx, r)
	if err != nil {
		return nil, err
	}
	page := &CityLogPage{
		Reply: newReply(r, answer),
		First: headerNumber(answer.header, "Dems-Log-First"),
		Total: headerNumber(answer.header, "Dems-Log-Total"),
	}
	for line := range bytes.Lines(answer.body) {
		if record := bytes.TrimSpace(line); len(record) > 0 {
			page.Records = append(page.Records, record)
		}
	}
	if page.First != from && len(page.Records) > 0 {
		return nil, &Error{
			Code:     dems.Internal,
			Status:   http.StatusOK,
			Detail:   fmt.Sprintf("Records from %d were asked for and records from %d came; use a client of the front end's version.", from, page.First),
			Endpoint: answer.endpoint,
		}
	}
	return page, nil
}

//go:build linux

package test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"time"
)

// incident is what GET /v1/incidents tells of one.
type incident struct {
	Sequence    uint64
	Time        time.Time
	Kind        string
	Node        string
	Incarnation uint64
	By          string
	Index       uint64
	Expected    string
	Answered    string
	Detail      string
}

// String is short: kind, node and incarnation, who says so.
func (i incident) String() string {
	return fmt.Sprintf("%d %s %s %s/%d by %s: %s", i.Sequence, i.Time.Format("15:04:05.000"), i.Kind, i.Node, i.Incarnation, i.By, i.Detail)
}

// incidents returns what happened from a log index on.
func (c *cluster) incidents(from uint64) ([]incident, error) {
	var answer struct{ Incidents []incident }
	err := c.decode(fmt.Sprintf("/v1/incidents?from=%d", from), &answer)
	return answer.Incidents, err
}

// sequence returns the log index after which everything that happens from now on will stand.
func (c *cluster) sequence() uint64 {
	c.t.Helper()
	var last uint64
	eventually(c.t, 20*time.Second, "the incidents so far", func() error {
		all, err := c.incidents(0)
		if len(all) > 0 {
			last = all[len(all)-1].Sequence
		}
		return err
	})
	return last
}

// waitIncident waits for an incident of one kind about a node after a sequence, and returns the first.
func (c *cluster) waitIncident(kind, node string, after uint64, within time.Duration) incident {
	c.t.Helper()
	var found incident
	eventually(c.t, within, fmt.Sprintf("incident %s of %s after %d", kind, node, after), func() error {
		all, err := c.incidents(after + 1)
		at := slices.IndexFunc(all, func(i incident) bool { return i.Kind == kind && i.Node == node })
		if at >= 0 {
			found = all[at]
			return nil
		}
		return errors.Join(err, fmt.Errorf("incidents %v", all))
	})
	return found
}

// punished returns the incidents about nodes that somebody holds to be wrong.
func punished(all []incident) []incident {
	return slices.DeleteFunc(slices.Clone(all), func(i incident) bool {
		return !slices.Contains([]string{"accusation", "verdict", "conviction", "removal", "readdition", "quarantine", "no-majority"}, i.Kind)
	})
}

// expectNobodyPunished checks that no node was accused, found wrong or replaced, since all were correct, however late.
func (c *cluster) expectNobodyPunished() {
	c.t.Helper()
	status := c.waitEqual(30 * time.Second)
	for _, n := range status.Nodes {
		if n.Incarnation != 1 {
			c.t.Errorf("%s is correct and has incarnation %d", n.ID, n.Incarnation)
		}
	}
	all, err := c.incidents(0)
	if err != nil {
		c.t.Error(err)
	}
	for _, i := range punished(all) {
		c.t.Errorf("all nodes are correct, but: %v", i)
	}
}

// send sends a JSON body, or none, and returns what came back.
func (c *cluster) send(method, path string, body any) (int, []byte, error) {
	var reader io.Reader
	if body != nil {
		data, err := json.Marshal(body)
		if err != nil {
			return 0, nil, err
		}
		reader = bytes.NewReader(data)
	}
	ctx, cancel := context.WithTimeout(context.Background(), attemptDeadline)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, method, c.url+path, reader)
	if err != nil {
		return 0, nil, err
	}
	request.Header.Set("Dems-User", "TORM0001")
	if body != nil {
		request.Header.Set("Content-Type", "application/json")
	}
	response, err := c.client.Do(request)
	if err != nil {
		return 0, nil, err
	}
	defer response.Body.Close()
	data, err := io.ReadAll(response.Body)
	return response.StatusCode, data, err
}

// mustSend sends what has to succeed.
func (c *cluster) mustSend(method, path string, body any) {
	c.t.Helper()
	if status, answer, err := c.send(method, path, body); err != nil || status >= 300 {
		c.t.Fatalf("%s %s %v: status %d, %s, %v", method, path, body, status, answer, err)
	}
}

// fault makes a node misbehave and returns when that was.
func (c *cluster) fault(node, kind string, more ...map[string]any) time.Time {
	c.t.Helper()
	body := map[string]any{"node": node, "kind": kind}
	for _, fields := range more {
		for name, value := range fields {
			body[name] = value
		}
	}
	begin := time.Now()
	c.mustSend(http.MethodPost, "/v1/faults", body)
	return begin
}

// replace asks for a node to be replaced, as an operator does.
func (c *cluster) replace(node string) {
	c.t.Helper()
	eventually(c.t, 30*time.Second, "replacing "+node, func() error {
		status, body, err := c.send(http.MethodPost, "/v1/cluster/nodes/"+node+"/replace", nil)
		if err == nil && status >= 300 {
			err = fmt.Errorf("status %d, %s", status, body)
		}
		return err
	})
}

// lead hands leadership over to a node, unless it leads already.
func (c *cluster) lead(node string) {
	c.t.Helper()
	if status, err := c.clusterStatus(); err == nil && status.Leader == node {
		return
	}
	c.mustSend(http.MethodPost, "/v1/cluster/leader", map[string]any{"to": node})
}

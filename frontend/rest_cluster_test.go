package frontend

import (
	"bytes"
	"context"
	"errors"
	"log/slog"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"dems"
)

func TestRegistry(t *testing.T) {
	registered := time.Date(2026, 5, 10, 5, 30, 0, 125_000_000, time.FixedZone("EDT", -4*3600))
	h := newRESTTest(&restFake{registry: func(context.Context) (dems.Registry, error) {
		return dems.Registry{
			Cities:    dems.DefaultCities(),
			Nodes:     []dems.Registration{{ID: "n1", Address: "127.0.0.1:7001", Version: "1.0.0", Time: registered, Incarnation: 2, Cities: "hidden"}},
			FrontEnds: []dems.Registration{{ID: "fe1", Address: "http://127.0.0.1:8080", Version: "1.0.0", Time: registered, Session: 77}},
		}, nil
	}})
	_, body := send(t, h, validCalls["getRegistry"])
	want := `{"cities":[{"city":"MTL","name":"Montreal"},{"city":"OTW","name":"Ottawa"},{"city":"TOR","name":"Toronto"}],` +
		`"nodes":[{"id":"n1","address":"127.0.0.1:7001","version":"1.0.0","registered":"2026-05-10T09:30:00.125Z","incarnation":2}],` +
		`"frontEnds":[{"id":"fe1","address":"http://127.0.0.1:8080","version":"1.0.0","registered":"2026-05-10T09:30:00.125Z"}]}`
	if body != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
	h = newRESTTest(&restFake{registry: func(context.Context) (dems.Registry, error) { return dems.Registry{}, nil }})
	if _, body := send(t, h, validCalls["getRegistry"]); body != `{"cities":[],"nodes":[],"frontEnds":[]}` {
		t.Errorf("an empty registry is %s", body)
	}
}

func TestCluster(t *testing.T) {
	digest := dems.Digest{0x00, 0x11, 0x22, 0xff}
	h := newRESTTest(&restFake{status: ClusterStatus{Leader: "n2", Term: 7, Nodes: []NodeView{
		{ID: "n1", Incarnation: 1, State: "down", Suffrage: dems.Voter},
		{ID: "n2", Incarnation: 3, State: "healthy", Suffrage: dems.Voter, Applied: 812, Digest: digest, Strikes: 1},
	}}})
	_, body := send(t, h, validCalls["getCluster"])
	want := `{"leader":"n2","term":7,"nodes":[` +
		`{"id":"n1","incarnation":1,"state":"down","suffrage":"voter","applied":0,"digest":"00000000000000000000000000000000","strikes":0},` +
		`{"id":"n2","incarnation":3,"state":"healthy","suffrage":"voter","applied":812,"digest":"001122ff000000000000000000000000","strikes":1}]}`
	if body != want {
		t.Errorf("got  %s\nwant %s", body, want)
	}
	if _, body := send(t, newRESTTest(new(restFake)), validCalls["getCluster"]); body != `{"leader":"","term":0,"nodes":[]}` {
		t.Errorf("nothing known is %s", body)
	}
}

func TestTransfer(t *testing.T) {
	for _, test := range []struct {
		body string
		err  error
		to   dems.NodeID
		want string
	}{
		{`{"to":"n2"}`, nil, "n2", `{"leader":"n2"}`},
		{`{"to":""}`, nil, "", `{"leader":"n3"}`},
		{`{}`, nil, "", `{"leader":"n3"}`},
		{`{"to":"n9"}`, &dems.Error{Code: dems.NotFound}, "n9", `"detail":"No node has that ID; GET /v1/cluster lists the nodes.","code":"not_found"}`},
		{`{"to":"n2"}`, &dems.Error{Code: dems.Unavailable, Detail: "No node leads."}, "n2", `"detail":"No node leads.","code":"unavailable"}`},
		{`{"to":"n2"}`, context.DeadlineExceeded, "n2", `"code":"indeterminate"}`},
		{`{"to":"n2"}`, errors.New("secret"), "n2", `"code":"internal"}`},
	} {
		var asked []dems.NodeID
		h := newRESTTest(&restFake{status: ClusterStatus{Leader: "n3"}, transfer: func(_ context.Context, to dems.NodeID) error {
			asked = append(asked, to)
			return test.err
		}})
		_, body := send(t, h, validCalls["transferLeadership"].with(func(c *call) { c.body = test.body }))
		if !strings.HasSuffix(body, test.want) || len(asked) != 1 || asked[0] != test.to || strings.Contains(body, "secret") {
			t.Errorf("%s, %v: %s, asked %v", test.body, test.err, body, asked)
		}
	}
}

func TestCityLog(t *testing.T) {
	lines := `{"seq":1,"op":"addEvent"}` + "\n" + `{"seq":2,"op":"bookEvent"}` + "\n"
	var city dems.City
	var first uint64
	h := newRESTTest(&restFake{cityLog: func(_ context.Context, c dems.City, from uint64) (dems.CityLogPage, error) {
		city, first = c, from
		return dems.CityLogPage{First: from, Total: from + 2, Records: []byte(lines)}, nil
	}})
	response, body := send(t, h, call{method: "GET", target: "/v1/logs/tor?from=18446744073709551613"})
	want := "200\nCache-Control: no-store\nContent-Type: application/x-ndjson\nDems-Log-First: 18446744073709551613\nDems-Log-Total: 18446744073709551615\n" + lines
	if got := transcript(response, body); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
	if city.String() != "TOR" || first != 18446744073709551613 {
		t.Errorf("asked for %s from %d", city, first)
	}
	if _, body := send(t, h, call{method: "GET", target: "/v1/logs/OTW"}); body != lines || first != 0 || city.String() != "OTW" {
		t.Errorf("asked for %s from %d, got %s", city, first, body)
	}
}

func TestHealth(t *testing.T) {
	passed := Check{Name: "cities"}
	failed := Check{Name: "majority", Err: errors.New("1 of 3\nnodes  answers")}
	for _, test := range []struct {
		target string
		checks []Check
		status int
		want   string
	}{
		{"/livez", []Check{failed}, 200, "ok"},
		{"/readyz", []Check{passed}, 200, "ok"},
		{"/readyz", nil, 200, "ok"},
		{"/readyz?verbose", []Check{passed, passed}, 200, "[+]cities ok\n[+]cities ok\nreadyz check passed\n"},
		{"/readyz?verbose=true", []Check{passed}, 200, "[+]cities ok\nreadyz check passed\n"},
		{"/readyz?verbose=1", nil, 200, "readyz check passed\n"},
		{"/readyz", []Check{passed, failed}, 503, "[+]cities ok\n[-]majority failed: 1 of 3 nodes answers\nreadyz check failed\n"},
		{"/readyz?verbose", []Check{failed, passed}, 503, "[-]majority failed: 1 of 3 nodes answers\n[+]cities ok\nreadyz check failed\n"},
	} {
		response, body := send(t, newRESTTest(&restFake{checks: test.checks}), call{method: "GET", target: test.target})
		if response.StatusCode != test.status || body != test.want || response.Header.Get("Content-Type") != "text/plain; charset=utf-8" {
			t.Errorf("%s with %v: %d %q", test.target, test.checks, response.StatusCode, body)
		}
		if retry := response.Header.Get("Retry-After"); (retry == "1") != (test.status == 503) {
			t.Errorf("%s: Retry-After is %q", test.target, retry)
		}
	}
}

func TestOpenAPIIsServedAsItIs(t *testing.T) {
	response, body := send(t, newRESTTest(new(restFake)), call{method: "GET", target: "/openapi.json"})
	if body != string(openAPIDocument) || response.Header.Get("Content-Type") != "application/json" {
		t.Errorf("%d bytes of %s", len(body), response.Header.Get("Content-Type"))
	}
}

func TestMetrics(t *testing.T) {
	registry := prometheus.NewRegistry()
	h := newRESTTest(new(restFake), func(c *RESTConfig) { c.Registry = registry })
	for range 3 {
		send(t, h, validCalls["bookEvent"])
	}
	send(t, h, validCalls["bookEvent"].with(func(c *call) { c.body = "x" }))
	send(t, h, call{method: "HEAD", target: "/livez"})
	for _, target := range []string{"/secret/a", "/secret/b", "/v1/events/seminar/x/y"} {
		send(t, h, call{method: "BREW", target: target})
	}
	send(t, h, call{method: "BREW", target: "/livez"})
	_, body := send(t, h, call{method: "GET", target: "/metrics", headers: []string{"Accept-Encoding", "gzip"}})
	for _, line := range []string{
		`dems_frontend_requests_total{class="2xx",method="POST",route="/v1/customers/{customerID}/bookings"} 3`,
		`dems_frontend_requests_total{class="4xx",method="POST",route="/v1/customers/{customerID}/bookings"} 1`,
		`dems_frontend_requests_total{class="2xx",method="GET",route="/livez"} 1`,
		`dems_frontend_requests_total{class="4xx",method="any",route="unmatched"} 4`,
		`dems_frontend_request_duration_seconds_count{method="POST",route="/v1/customers/{customerID}/bookings"} 4`,
		`dems_frontend_problems_total{code="malformed_request"} 1`,
		`dems_frontend_problems_total{code="not_found"} 3`,
		`dems_frontend_problems_total{code="method_not_allowed"} 1`,
		`dems_frontend_requests_in_flight 0`,
	} {
		if !strings.Contains(body, line+"\n") {
			t.Errorf("the line is missing: %s", line)
		}
	}
	for _, word := range []string{"secret", "BREW", "MTLC0001"} {
		if strings.Contains(body, word) {
			t.Errorf("a client's word stands in the metrics: %s", word)
		}
	}
}

func TestConfigValidate(t *testing.T) {
	if err := (RESTConfig{}).Validate(); err != nil {
		t.Error(err)
	}
	err := (RESTConfig{Deadline: -1, MaxInFlight: -1, MaxHeaderBytes: -5}).Validate()
	for _, name := range []string{"Deadline", "MaxInFlight", "MaxHeaderBytes"} {
		if err == nil || !strings.Contains(err.Error(), name+" is negative") {
			t.Errorf("%s is not complained about: %v", name, err)
		}
	}
	server := NewServer(nil, RESTConfig{})
	if server.ReadTimeout != 10*time.Second || server.ReadHeaderTimeout != 5*time.Second || server.WriteTimeout != 40*time.Second ||
		server.IdleTimeout != 2*time.Minute || server.MaxHeaderBytes != 16<<10 {
		t.Errorf("the limits of the server are %+v", server)
	}
}

// TestAccessLog: requests are logged at debug level only, and what a client sends cannot forge lines.
func TestAccessLog(t *testing.T) {
	for _, level := range []slog.Level{slog.LevelDebug, slog.LevelInfo} {
		var log bytes.Buffer
		logger := slog.New(slog.NewTextHandler(&log, &slog.HandlerOptions{Level: level}))
		h := newRESTTest(new(restFake), func(c *RESTConfig) { c.Logger = logger })
		send(t, h, call{method: "GET", target: "/v1/events/party%0Alevel=ERROR", user: "TORM0001"})
		if level == slog.LevelInfo && log.Len() > 0 {
			t.Errorf("logged: %s", &log)
		}
		if level == slog.LevelDebug && (strings.Count(log.String(), "\n") != 1 || !strings.Contains(log.String(), "code=invalid_event_type")) {
			t.Errorf("logged: %s", &log)
		}
	}
}

package frontend

import (
	"context"
	"errors"
	"reflect"
	"strings"
	"testing"
	"time"

	"dems"
)

func TestIncidentsAreServed(t *testing.T) {
	when := time.Date(2026, 5, 10, 5, 30, 0, 125_000_000, time.FixedZone("EDT", -4*3600))
	var asked []uint64
	h := newRESTTest(&restFake{incident: func(_ context.Context, from uint64) ([]dems.Incident, error) {
		asked = append(asked, from)
		return []dems.Incident{
			{Sequence: 815, Time: when, Kind: dems.VerdictIncident, Node: "n2", Incarnation: 3, By: "n1", Index: 812,
				Expected: "results \"1\"", Answered: "results 2", Detail: "Wrong."},
			{Sequence: 815, Time: when, Kind: dems.NoMajorityIncident},
		}, nil
	}})
	want := `{"incidents":[{"sequence":815,"time":"2026-05-10T09:30:00.125Z","kind":"verdict","node":"n2","incarnation":3,"by":"n1",` +
		`"index":812,"expected":"results \"1\"","answered":"results 2","detail":"Wrong."},` +
		`{"sequence":815,"time":"2026-05-10T09:30:00.125Z","kind":"no-majority"}]}`
	for _, target := range []string{"/v1/incidents", "/v1/incidents?from=0", "/v1/incidents?from=18446744073709551615"} {
		if _, body := send(t, h, call{method: "GET", target: target}); body != want {
			t.Errorf("%s: got  %s\nwant %s", target, body, want)
		}
	}
	if len(asked) != 3 || asked[0] != 0 || asked[1] != 0 || asked[2] != 1<<64-1 {
		t.Errorf("asked from %v", asked)
	}
	if _, body := send(t, newRESTTest(new(restFake)), validCalls["getIncidents"]); body != `{"incidents":[]}` {
		t.Errorf("no incidents are %s", body)
	}
}

func TestEveryKindOfIncidentIsDocumented(t *testing.T) {
	for _, kind := range dems.IncidentKinds() {
		h := newRESTTest(&restFake{incident: func(context.Context, uint64) ([]dems.Incident, error) {
			return []dems.Incident{{Sequence: 1, Time: restTime, Kind: kind}}, nil
		}})
		if _, body := send(t, h, validCalls["getIncidents"]); !strings.Contains(body, `"kind":"`+kind.String()+`"`) {
			t.Errorf("%s is %s", kind, body)
		}
	}
}

// failures are what the cluster may say to a request that changes something, and what a client is told.
var failures = []struct {
	err    error
	status int
	want   string
}{
	{&dems.Error{Code: dems.NotFound, Detail: "There is no node n2."}, 404, `"detail":"There is no node n2.","code":"not_found"`},
	{&dems.Error{Code: dems.Unavailable, Detail: "Another one."}, 503, `"detail":"Another one.","code":"unavailable"`},
	{&dems.Error{Code: dems.Indeterminate, Detail: "Look."}, 504, `"detail":"Look.","code":"indeterminate"`},
	{context.DeadlineExceeded, 504, `"code":"indeterminate"`},
	{errors.New("secret"), 500, `"code":"internal"`},
}

func TestReplacementIsAccepted(t *testing.T) {
	var asked []dems.NodeID
	var answer error
	h := newRESTTest(&restFake{replace: func(_ context.Context, id dems.NodeID) error {
		asked = append(asked, id)
		return answer
	}})
	response, body := send(t, h, call{method: "POST", target: "/v1/cluster/nodes/n%32/replace"})
	if response.StatusCode != 202 || body != `{"outcome":"accepted","node":"n2"}` || len(asked) != 1 || asked[0] != "n2" {
		t.Errorf("%d %s, asked %v", response.StatusCode, body, asked)
	}
	for _, failure := range failures {
		answer = failure.err
		response, body := send(t, h, validCalls["replaceNode"])
		if response.StatusCode != failure.status || !strings.Contains(body, failure.want) || strings.Contains(body, "secret") {
			t.Errorf("%v: %d %s", failure.err, response.StatusCode, body)
		}
		if retry := response.Header.Get("Retry-After"); (retry == "1") != (failure.status == 503) {
			t.Errorf("%v: Retry-After is %q", failure.err, retry)
		}
	}
}

func TestFaultsAreInjected(t *testing.T) {
	type injection struct {
		node  dems.NodeID
		fault dems.Fault
	}
	for _, test := range []struct {
		body  string
		want  injection // without a kind: it is malformed
		reply string
	}{
		{`{"node":"n2","kind":"wrong-results"}`, injection{"n2", dems.Fault{Kind: dems.WrongResults}}, `"kind":"wrong-results"}`},
		{`{"node":"n1","kind":"wrong-results","requests":1000000}`, injection{"n1", dems.Fault{Kind: dems.WrongResults, Requests: 1_000_000}},
			`"kind":"wrong-results","requests":1000000}`},
		{`{"node":"n1","kind":"wrong-state"}`, injection{"n1", dems.Fault{Kind: dems.WrongState}}, `"kind":"wrong-state"}`},
		{`{"node":"n1","kind":"mute"}`, injection{"n1", dems.Fault{Kind: dems.Mute}}, `"kind":"mute"}`},
		{`{"milliseconds":10000,"node":"n1","kind":"slow"}`, injection{"n1", dems.Fault{Kind: dems.Slow, Delay: 10 * time.Second}},
			`"kind":"slow","milliseconds":10000}`},
		{`{"node":"n2","kind":"partition","lastsMilliseconds":600000}`, injection{"n2", dems.Fault{Kind: dems.Partition, Lasts: 10 * time.Minute}},
			`"kind":"partition","direction":"both","lastsMilliseconds":600000}`},
		{`{"node":"n2","kind":"partition","peers":["n1","frontends"],"direction":"incoming","lastsMilliseconds":3000}`,
			injection{"n2", dems.Fault{Kind: dems.Partition, Peers: []string{"n1", "frontends"}, Direction: dems.Incoming, Lasts: 3 * time.Second}},
			`"kind":"partition","peers":["n1","frontends"],"direction":"incoming","lastsMilliseconds":3000}`},
		{`{"node":"n2","kind":"latency","milliseconds":50,"jitterMilliseconds":25,"direction":"outgoing"}`,
			injection{"n2", dems.Fault{Kind: dems.Latency, Delay: 50 * time.Millisecond, Jitter: 25 * time.Millisecond, Direction: dems.Outgoing}},
			`"kind":"latency","milliseconds":50,"jitterMilliseconds":25,"direction":"outgoing"}`},
		{`{"node":"n2","kind":"partition"}`, injection{}, "needs how long it lasts"},
		{`{"node":"n2","kind":"partition","lastsMilliseconds":600001}`, injection{}, "lastsMilliseconds is a whole number from 1 to 600000"},
		{`{"node":"n2","kind":"partition","lastsMilliseconds":1,"peers":["n1","n1"]}`, injection{}, "n1 stands twice"},
		{`{"node":"n2","kind":"partition","lastsMilliseconds":1,"peers":["n1,n3"]}`, injection{}, "is neither"},
		{`{"node":"n2","kind":"partition","lastsMilliseconds":1,"peers":[""]}`, injection{}, "is neither"},
		{`{"node":"n2","kind":"partition","lastsMilliseconds":1,"peers":[]}`, injection{}, "at least one"},
		{`{"node":"n2","kind":"partition","lastsMilliseconds":1,"direction":"in"}`, injection{}, "The direction is"},
		{`{"node":"n2","kind":"latency"}`, injection{}, "needs milliseconds"},
		{`{"node":"n2","kind":"latency","milliseconds":50,"jitterMilliseconds":9951}`, injection{}, "at most 10000"},
		{`{"node":"n2","kind":"latency","milliseconds":50,"jitterMilliseconds":-1}`, injection{}, "jitterMilliseconds is a whole number"},
		{`{"node":"n2","kind":"latency","milliseconds":50,"requests":3}`, injection{}, "not after a number of requests"},
		{`{"node":"n2","kind":"mute","peers":["n1"]}`, injection{}, "Only partition and latency"},
		{`{"node":"n1","kind":"slow"}`, injection{}, "needs milliseconds"},
		{`{"node":"n1","kind":"mute","milliseconds":1}`, injection{}, "Only a slow node"},
		{`{"node":"n1","kind":"slow","milliseconds":10001}`, injection{}, "1 to 10000"},
		{`{"node":"n1","kind":"slow","milliseconds":0}`, injection{}, "1 to 10000"},
		{`{"node":"n1","kind":"mute","requests":1000001}`, injection{}, "1 to 1000000"},
		{`{"node":"n1","kind":"mute","requests":0}`, injection{}, "leave it out"},
		{`{"node":"n1","kind":"none"}`, injection{}, "The kind is"},
		{`{"node":"n1","kind":""}`, injection{}, "The kind is"},
		{`{"node":"n1"}`, injection{}, "The kind is"},
		{`{"kind":"mute"}`, injection{}, "Name the node"},
	} {
		var got []injection
		h := newRESTTest(&restFake{inject: func(_ context.Context, id dems.NodeID, fault dems.Fault) error {
			got = append(got, injection{id, fault})
			return nil
		}})
		response, body := send(t, h, validCalls["injectFault"].with(func(c *call) { c.body = test.body }))
		if test.want.node == "" {
			if response.StatusCode != 400 || !strings.Contains(body, test.reply) || !strings.Contains(body, "malformed_request") || len(got) != 0 {
				t.Errorf("%s: %d %s, injected %v", test.body, response.StatusCode, body, got)
			}
			continue
		}
		want := `{"outcome":"injected","node":"` + string(test.want.node) + `",` + test.reply
		if response.StatusCode != 200 || body != want || len(got) != 1 || !reflect.DeepEqual(got[0], test.want) {
			t.Errorf("%s: %d %s, injected %v", test.body, response.StatusCode, body, got)
		}
	}
}

func TestFaultsThatCannotBe(t *testing.T) {
	var answer error
	h := newRESTTest(&restFake{
		inject: func(context.Context, dems.NodeID, dems.Fault) error { return answer },
		end:    func(context.Context) error { return answer },
	})
	for _, name := range []string{"injectFault", "endFaults"} {
		for _, failure := range failures {
			answer = failure.err
			response, body := send(t, h, validCalls[name])
			if response.StatusCode != failure.status || !strings.Contains(body, failure.want) || strings.Contains(body, "secret") {
				t.Errorf("%s, %v: %d %s", name, failure.err, response.StatusCode, body)
			}
		}
	}
	answer = nil
	if _, body := send(t, h, validCalls["endFaults"]); body != `{"outcome":"ended"}` {
		t.Errorf("ended: %s", body)
	}
}

// TestFaultsAreForDrillsOnly: where nothing was said of drills, the address does not exist, whatever the method and the body.
func TestFaultsAreForDrillsOnly(t *testing.T) {
	fake := new(restFake)
	h := newRESTTest(fake, func(c *RESTConfig) { c.EnableFaults = false })
	for _, method := range []string{"GET", "POST", "PUT", "DELETE", "OPTIONS"} {
		for _, body := range []string{"", "{", validCalls["injectFault"].body} {
			response, text := send(t, h, call{method: method, target: "/v1/faults", body: body})
			if response.StatusCode != 404 || !strings.Contains(text, `"not_found"`) || !strings.Contains(text, "--enable-faults") ||
				response.Header.Get("Allow") != "" {
				t.Errorf("%s %q: %d %s", method, body, response.StatusCode, text)
			}
		}
	}
	if calls := fake.seen(); len(calls) != 0 {
		t.Errorf("the cluster was asked: %v", calls)
	}
	// What is no drill is there all the same.
	for _, name := range []string{"replaceNode", "getIncidents"} {
		if response, body := send(t, h, validCalls[name]); response.StatusCode >= 300 {
			t.Errorf("%s: %d %s", name, response.StatusCode, body)
		}
	}
}

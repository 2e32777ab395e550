package client_test

import (
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dems"
	"dems/client"
	"dems/internal/onenode"
)

func TestIncidents(t *testing.T) {
	s := start(t, "", 1, nil)
	list, err := s.Incidents(t.Context(), 0)
	check(t, err, 0, len(list.Incidents))
	for _, incident := range []dems.Incident{
		{Kind: dems.AccusationIncident, Node: "n2", Incarnation: 1, By: "fe1", Index: 7, Expected: "a", Answered: "b", Detail: "c"},
		{Kind: dems.NoMajorityIncident, By: "fe2"},
	} {
		if err := s.cluster.Report(incident); err != nil {
			t.Fatal(err)
		}
	}
	list, err = s.Incidents(t.Context(), 0)
	if err != nil || len(list.Incidents) != 2 {
		t.Fatalf("%v, %+v", err, list)
	}
	when := time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)
	last := list.Incidents[1].Sequence
	want := []client.Incident{
		{Sequence: last - 1, Time: when, Kind: "accusation", Node: "n2", Incarnation: 1, By: "fe1", Index: 7, Expected: "a", Answered: "b", Detail: "c"},
		{Sequence: last, Time: when.Add(time.Second), Kind: "no-majority", By: "fe2"},
	}
	if difference := cmp.Diff(want, list.Incidents); difference != "" {
		t.Error(difference)
	}
	list, err = s.Incidents(t.Context(), last)
	check(t, err, 1, len(list.Incidents))
	list, err = s.Incidents(t.Context(), last+1)
	check(t, err, 0, len(list.Incidents))
}

// TestReplaceNode follows a replacement to its end.
func TestReplaceNode(t *testing.T) {
	s := start(t, "", 1, nil)
	replacing, err := s.ReplaceNode(t.Context(), "n2")
	check(t, err, "accepted", replacing.Outcome)
	check(t, err, "n2", string(replacing.Node))
	var states []string
	for range 5 {
		view, err := s.ClusterStatus(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		states = append(states, view.Nodes[1].State+" "+string(view.Nodes[1].Suffrage))
	}
	want := []string{"incorrect voter", "replacing none", "replacing nonvoter", "healthy voter", "healthy voter"}
	if !slices.Equal(states, want) {
		t.Errorf("states %v, want %v", states, want)
	}
	view, err := s.ClusterStatus(t.Context())
	check(t, err, 2, view.Nodes[1].Incarnation)
	list, err := s.Incidents(t.Context(), 0)
	var kinds []string
	for _, incident := range list.Incidents {
		kinds = append(kinds, incident.Kind+" "+string(incident.Node))
	}
	check(t, err, "conviction n2, removal n2, readdition n2", strings.Join(kinds, ", "))
}

// TestNodesThatCannotBe: what cannot be a node's ID never becomes a part of an address.
func TestNodesThatCannotBe(t *testing.T) {
	s := start(t, "", 1, nil)
	for _, id := range []dems.NodeID{"", "N2", "..", "n2/../n1", "n2?x=1", dems.NodeID(strings.Repeat("n", 33)), "n2\x1b[0m"} {
		_, err := s.ReplaceNode(t.Context(), id)
		wantError(t, err, dems.NotFound)
		_, err = s.InjectFault(t.Context(), id, dems.Fault{Kind: dems.Mute})
		wantError(t, err, dems.NotFound)
	}
	if requests := s.frontEnds[0].Requests(); len(requests) != 0 {
		t.Errorf("sent %v", requests)
	}
	_, err := s.ReplaceNode(t.Context(), "n9")
	wantError(t, err, dems.NotFound)
	_, err = s.InjectFault(t.Context(), "n9", dems.Fault{Kind: dems.Mute})
	wantError(t, err, dems.NotFound)
}

func TestFaults(t *testing.T) {
	s := start(t, "", 1, nil)
	faults := map[dems.NodeID]dems.Fault{
		"n1": {Kind: dems.Slow, Requests: 7, Delay: 200 * time.Millisecond},
		"n2": {Kind: dems.WrongResults},
	}
	networks := map[dems.NodeID]dems.Fault{ // in place of those
		"n1": {Kind: dems.Partition, Peers: []string{"n2", dems.FrontEnds}, Direction: dems.Outgoing, Lasts: 3 * time.Second},
		"n2": {Kind: dems.Latency, Delay: time.Second, Jitter: 20 * time.Millisecond},
	}
	for id, fault := range faults {
		injected, err := s.InjectFault(t.Context(), id, fault)
		check(t, err, fault.Kind.String(), injected.Kind)
		check(t, err, id, injected.Node)
		check(t, err, fault.Requests, injected.Requests)
		check(t, err, fault.Delay.Milliseconds(), injected.Milliseconds)
	}
	if difference := cmp.Diff(faults, s.cluster.Faults()); difference != "" {
		t.Error(difference)
	}
	for id, fault := range networks {
		injected, err := s.InjectFault(t.Context(), id, fault)
		check(t, err, fault.Direction.String(), injected.Direction)
		check(t, err, fault.Lasts.Milliseconds(), injected.LastsMilliseconds)
		check(t, err, fault.Jitter.Milliseconds(), injected.JitterMilliseconds)
		check(t, err, strings.Join(fault.Peers, " "), strings.Join(injected.Peers, " "))
	}
	if difference := cmp.Diff(networks, s.cluster.Faults()); difference != "" {
		t.Error(difference)
	}
	ended, err := s.EndFaults(t.Context())
	check(t, err, "ended", ended.Outcome)
	check(t, err, 0, len(s.cluster.Faults()))
	s.cluster.Fail(dems.NotFound, dems.NotFound) // as where nothing was started for drills
	_, err = s.InjectFault(t.Context(), "n1", dems.Fault{Kind: dems.Mute})
	wantError(t, err, dems.NotFound)
	_, err = s.EndFaults(t.Context())
	wantError(t, err, dems.NotFound)

	sent := len(s.frontEnds[0].Requests())
	for _, fault := range []dems.Fault{
		{}, {Kind: 99}, {Kind: dems.Slow}, {Kind: dems.Mute, Delay: 1}, {Kind: dems.Mute, Requests: -1},
		{Kind: dems.Slow, Delay: 1500 * time.Microsecond}, {Kind: dems.Slow, Delay: time.Hour},
		{Kind: dems.Partition}, {Kind: dems.Partition, Lasts: time.Microsecond}, {Kind: dems.Latency, Delay: time.Second, Jitter: 1},
		{Kind: dems.Partition, Lasts: time.Second, Peers: []string{"N2"}}, {Kind: dems.Mute, Peers: []string{"n1"}},
	} {
		_, err := s.InjectFault(t.Context(), "n1", fault)
		wantError(t, err, dems.MalformedRequest)
	}
	if len(s.frontEnds[0].Requests()) != sent {
		t.Error("a malformed fault was sent")
	}
}

// TestWhatMustNotBeDoneTwiceIsNotSentAgain: it is sent again only where no attempt before can have arrived.
func TestWhatMustNotBeDoneTwiceIsNotSentAgain(t *testing.T) {
	for _, test := range []struct {
		name     string
		faults   []onenode.Fault // of the first front end
		codes    []dems.Code
		want     dems.Code
		requests int // in all
	}{
		{"cut before", []onenode.Fault{onenode.CutBefore}, nil, dems.Indeterminate, 1},
		{"cut after", []onenode.Fault{onenode.CutAfter}, nil, dems.Indeterminate, 1},
		{"silence", []onenode.Fault{onenode.HangAfter}, nil, dems.Indeterminate, 1},
		{"bad gateway", []onenode.Fault{onenode.BadGateway}, nil, dems.Indeterminate, 1},
		{"indeterminate", nil, []dems.Code{dems.Indeterminate}, dems.Indeterminate, 1},
		{"internal", nil, []dems.Code{dems.Internal}, dems.Internal, 1},
		{"not ours", []onenode.Fault{onenode.NotOurs}, nil, dems.OK, 2},
		{"unavailable", nil, []dems.Code{dems.Unavailable}, dems.OK, 2},
	} {
		t.Run(test.name, func(t *testing.T) {
			t.Parallel()
			for _, do := range []func(*system) error{
				func(s *system) error { _, err := s.ReplaceNode(t.Context(), "n2"); return err },
				func(s *system) error {
					_, err := s.InjectFault(t.Context(), "n2", dems.Fault{Kind: dems.WrongState})
					return err
				},
			} {
				s := start(t, "", 2, func(c *client.Config) { c.Timeout, c.AttemptTimeout = 500*time.Millisecond, 50*time.Millisecond })
				s.frontEnds[0].Fault(test.faults...)
				s.cluster.Fail(test.codes...)
				err := do(s)
				if dems.CodeOf(err) != test.want {
					t.Errorf("got %v, want %s", err, test.want)
				}
				if test.want == dems.Indeterminate && test.codes == nil && !strings.Contains(err.Error(), "look at the cluster before you ask again") {
					t.Errorf("it is not said what to do: %v", err)
				}
				if sent := len(s.frontEnds[0].Requests()) + len(s.frontEnds[1].Requests()); sent != test.requests {
					t.Errorf("%d requests, want %d", sent, test.requests)
				}
			}
		})
	}
	dead := newClient(t, client.Config{Endpoints: []string{deadEndpoint()}, Timeout: 100 * time.Millisecond})
	_, err := dead.ReplaceNode(t.Context(), "n2")
	wantError(t, err, dems.Unavailable)
}

// TestFaultsAreEndedAgain: ending them twice is as good as once.
func TestFaultsAreEndedAgain(t *testing.T) {
	s := start(t, "", 1, nil)
	s.frontEnds[0].Fault(onenode.CutAfter)
	_, err := s.EndFaults(t.Context())
	if requests := s.frontEnds[0].Requests(); err != nil || len(requests) != 2 || requests[1].Method+requests[1].Path != "DELETE/v1/faults" {
		t.Errorf("%v, %v", err, requests)
	}
}

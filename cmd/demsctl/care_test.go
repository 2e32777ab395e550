package main

import (
	"bytes"
	"context"
	"encoding/json"
	"io"
	"strings"
	"testing"

	"dems"
	"dems/client"
	"dems/internal/onenode"
)

// withCluster returns a cluster and a front end of it.
func withCluster(t *testing.T) (*onenode.Cluster, *onenode.FrontEnd) {
	t.Helper()
	cluster, err := onenode.NewCluster()
	if err != nil {
		t.Fatal(err)
	}
	frontEnd, err := onenode.Start(cluster, "fe1")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(frontEnd.Close)
	return cluster, frontEnd
}

func happens(t *testing.T, cluster *onenode.Cluster, node dems.NodeID) {
	t.Helper()
	if err := cluster.Report(dems.Incident{Kind: dems.SuspicionIncident, Node: node, Detail: "It does not answer."}); err != nil {
		t.Error(err)
	}
}

// TestIncidentsAreFollowed: what comes later lines up with what came first, and nothing comes twice.
func TestIncidentsAreFollowed(t *testing.T) {
	for _, output := range []string{"table", "json"} {
		cluster, frontEnd := withCluster(t)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		later := map[string]dems.NodeID{"n1": "n2", "n2": "n3"}
		happens(t, cluster, "n1")
		written := &watcher{}
		written.written = func(text string) {
			for node, next := range later {
				if strings.Contains(text, string(node)) {
					delete(later, string(node))
					happens(t, cluster, next)
				}
			}
			if strings.Contains(text, "n3") {
				cancel()
			}
		}
		var complaints bytes.Buffer
		arguments := []string{"incidents", "--follow", "--interval", "1ms", "-o", output}
		if status := run(ctx, arguments, nil, written, &complaints, environment(t, frontEnd)); status != 0 || complaints.Len() > 0 {
			t.Errorf("%s: exit status %d: %s", output, status, complaints.String())
		}
		lines := strings.Split(strings.TrimSuffix(written.text.String(), "\n"), "\n")
		if output == "table" {
			checkColumns(t, lines)
			continue
		}
		if len(lines) != 3 {
			t.Fatalf("%d lines:\n%s", len(lines), written.text.String())
		}
		for i, node := range []dems.NodeID{"n1", "n2", "n3"} {
			var incident client.Incident
			if err := json.Unmarshal([]byte(lines[i]), &incident); err != nil || incident.Node != node || incident.Kind != "suspicion" {
				t.Errorf("%v: %s", err, lines[i])
			}
		}
	}
}

func checkColumns(t *testing.T, lines []string) {
	t.Helper()
	if len(lines) != 4 || !strings.HasPrefix(lines[0], "TIME") {
		t.Fatalf("%d lines:\n%s", len(lines), strings.Join(lines, "\n"))
	}
	node, detail := strings.Index(lines[0], "NODE"), strings.Index(lines[0], "DETAIL")
	for i, line := range lines[1:] {
		if line[node:node+2] != []string{"n1", "n2", "n3"}[i] || line[detail:] != "It does not answer." {
			t.Errorf("does not line up:\n%s\n%s", lines[0], line)
		}
	}
}

// TestFollowingOutlastsFailures: a front end that is away, and nodes without a majority, are told about once and waited for.
func TestFollowingOutlastsFailures(t *testing.T) {
	cluster, frontEnd := withCluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	frontEnd.Fault(onenode.BadGateway, onenode.NotOurs, onenode.CutBefore)
	cluster.Fail(dems.Unavailable, dems.NoMajority, dems.Internal, dems.OK, dems.Unavailable)
	happens(t, cluster, "n1")
	var complaints bytes.Buffer
	output := &watcher{}
	output.written = func(text string) {
		switch {
		case strings.Contains(text, "n2"):
			cancel()
		case strings.Contains(text, "n1"):
			happens(t, cluster, "n2")
		}
	}
	arguments := []string{"incidents", "--follow", "--interval", "1ms", "--timeout", "20ms"}
	if status := run(ctx, arguments, nil, output, &complaints, environment(t, frontEnd)); status != 0 {
		t.Errorf("exit status %d", status)
	}
	if told := strings.Count(complaints.String(), "going on as soon as there is an answer"); told != 2 {
		t.Errorf("told %d times, want once for each time that nobody answered:\n%s", told, complaints.String())
	}
	if strings.Count(output.text.String(), "suspicion") != 2 {
		t.Errorf("printed:\n%s", output.text.String())
	}
}

func TestFollowingEndsWhereTheOutputDoes(t *testing.T) {
	cluster, frontEnd := withCluster(t)
	happens(t, cluster, "n1")
	var complaints bytes.Buffer
	status := run(t.Context(), []string{"incidents", "--follow"}, nil, full{}, &complaints, environment(t, frontEnd))
	if status != exitUsage || !strings.Contains(complaints.String(), "no space left") {
		t.Errorf("exit status %d: %s", status, complaints.String())
	}
}

func TestFollowingEndsWithARefusal(t *testing.T) {
	cluster, frontEnd := withCluster(t)
	cluster.Fail(dems.NotFound) // as from a front end that knows no incidents
	var complaints bytes.Buffer
	status := run(t.Context(), []string{"incidents", "--follow"}, nil, io.Discard, &complaints, environment(t, frontEnd))
	if status != exitRefused || !strings.Contains(complaints.String(), "not_found") {
		t.Errorf("exit status %d: %s", status, complaints.String())
	}
}

// TestReplacementIsWaitedForWithoutFrontEnds: while nobody answers, the wait goes on.
func TestReplacementIsWaitedForWithoutFrontEnds(t *testing.T) {
	_, frontEnd := withCluster(t)
	frontEnd.Fault(onenode.None, onenode.None, onenode.None, onenode.BadGateway, onenode.NotOurs)
	var output, complaints bytes.Buffer
	status := run(t.Context(), []string{"cluster", "replace", "n2", "--timeout", "50ms"}, nil, &output, &complaints, environment(t, frontEnd))
	if status != 0 || output.String() != "Replaced: n2 is healthy, incarnation 2, a voter\n" {
		t.Errorf("exit status %d: %s%s", status, output.String(), complaints.String())
	}
}

// TestReplacementOutOfQuarantine: a node that is out is shown with the incarnation to come, and comes back under that one.
func TestReplacementOutOfQuarantine(t *testing.T) {
	cluster, frontEnd := withCluster(t)
	if err := cluster.Quarantine("n2"); err != nil {
		t.Fatal(err)
	}
	var output, complaints bytes.Buffer
	for _, arguments := range [][]string{{"cluster", "status"}, {"cluster", "replace", "n2"}} {
		if status := run(t.Context(), arguments, nil, &output, &complaints, environment(t, frontEnd)); status != 0 {
			t.Errorf("%v: exit status %d: %s", arguments, status, complaints.String())
		}
	}
	for _, want := range []string{"n2              5  incorrect  none", "Replaced: n2 is healthy, incarnation 5, a voter"} {
		if !strings.Contains(output.String(), want) {
			t.Errorf("%q is not in\n%s", want, output.String())
		}
	}
}

// TestReplacementGoesOnWithoutItsWatcher: who is interrupted is told that it does.
func TestReplacementGoesOnWithoutItsWatcher(t *testing.T) {
	_, frontEnd := withCluster(t)
	ctx, cancel := context.WithCancel(t.Context())
	complaints := &watcher{written: func(text string) {
		if strings.Contains(text, "n2 is incorrect") {
			cancel()
		}
	}}
	p := &program{stdout: io.Discard, stderr: complaints, lookup: environment(t, frontEnd), chatty: true}
	status := exitStatus(p.execute(ctx, newRoot(p), []string{"cluster", "replace", "n2"}))
	if status != exitIndeterminate || !strings.Contains(complaints.text.String(), "that goes on by itself") {
		t.Errorf("exit status %d: %s", status, complaints.text.String())
	}
}

func TestIncidentsAreDescribed(t *testing.T) {
	for want, incident := range map[string]client.Incident{
		"":                                       {},
		"n1:":                                    {By: "n1"},
		"n1: It does not answer. Incarnation 2.": {By: "n1", Detail: "It does not answer.", Incarnation: 2},
		"Incarnation 2 is a voter.":              {Detail: "Incarnation 2 is a voter.", Incarnation: 2},
		"n1: Evidence at index 7. Expected a, answered nothing. Incarnation 12.": {By: "n1", Incarnation: 12, Index: 7, Expected: "a"},
		"By n1 wrong at index 7. Expected nothing, answered b c.":                {By: "n1", Detail: "By n1 wrong at index 7", Index: 7, Answered: "b \n c"},
	} {
		if got := describeIncident(&incident); got != want {
			t.Errorf("%+v is described as %q, want %q", incident, got, want)
		}
	}
}

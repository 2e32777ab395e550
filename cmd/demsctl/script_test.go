package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"

	"dems"
	"dems/internal/onenode"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"demsctl": main})
}

// TestScripts runs demsctl against front ends in this process. Each script has one cluster, and in its environment URL1,
// URL2 and URL3 of front ends, DEAD of none, and DEMS_ENDPOINTS=$URL1.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		Setup:               startSystem,
		RequireExplicitExec: true,
		RequireUniqueNames:  true,
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"ctl":      runHere,
			"main":     runMain,
			"fault":    fault,
			"fail":     fail,
			"report":   reportIncident,
			"injected": wantInjected,
			"requests": wantRequests,
			"onekey":   wantOneKey,
			"json":     wantJSON,
			"killed":   killDuringRequest,
		},
	})
}

// system is what a script talks to.
type system struct {
	cluster   *onenode.Cluster
	frontEnds []*onenode.FrontEnd
}

type systemKey struct{}

func startSystem(env *testscript.Env) error {
	cluster, err := onenode.NewCluster()
	if err != nil {
		return err
	}
	s := &system{cluster: cluster}
	for number := 1; number <= 3; number++ {
		frontEnd, err := onenode.Start(cluster, "fe"+strconv.Itoa(number))
		if err != nil {
			return err
		}
		env.Defer(frontEnd.Close)
		env.Setenv("URL"+strconv.Itoa(number), frontEnd.URL)
		s.frontEnds = append(s.frontEnds, frontEnd)
	}
	gone, err := onenode.Start(cluster, "fe4")
	if err != nil {
		return err
	}
	gone.Close()
	env.Setenv("DEAD", gone.URL)
	env.Setenv("DEMS_ENDPOINTS", s.frontEnds[0].URL)
	env.Setenv("DEMS_LOG_DIR", filepath.Join(env.WorkDir, "logs"))
	env.Values[systemKey{}] = s
	return nil
}

func systemOf(ts *testscript.TestScript) *system { return ts.Value(systemKey{}).(*system) }

// runHere is "ctl STATUS ARGUMENT…": it does in this process what main does and checks the exit status. It has no
// standard input.
func runHere(ts *testscript.TestScript, negated bool, arguments []string) {
	if negated || len(arguments) < 1 {
		ts.Fatalf("usage: ctl STATUS ARGUMENT…")
	}
	lookup := func(name string) (string, bool) { return ts.Getenv(name), ts.Getenv(name) != "" }
	status := run(context.Background(), arguments[1:], strings.NewReader(""), ts.Stdout(), ts.Stderr(), lookup)
	if strconv.Itoa(status) != arguments[0] {
		ts.Fatalf("exit status %d, want %s", status, arguments[0])
	}
}

// runMain is "main STATUS ARGUMENT…": it runs the real main in a process of its own and checks the exit status.
func runMain(ts *testscript.TestScript, negated bool, arguments []string) {
	if negated || len(arguments) < 1 {
		ts.Fatalf("usage: main STATUS ARGUMENT…")
	}
	err := ts.Exec("demsctl", arguments[1:]...)
	status := "0"
	if failed, ok := err.(*exec.ExitError); ok {
		status = strconv.Itoa(failed.ExitCode())
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if status != arguments[0] {
		ts.Fatalf("exit status %s, want %s", status, arguments[0])
	}
}

// fault is "fault FRONTEND FAULT…", for example fault 1 cut-after: what happens to the front end's next requests.
func fault(ts *testscript.TestScript, _ bool, arguments []string) {
	for _, name := range arguments[1:] {
		frontEnd(ts, arguments[0]).Fault(onenode.Fault(name))
	}
}

func frontEnd(ts *testscript.TestScript, number string) *onenode.FrontEnd {
	n, err := strconv.Atoi(number)
	ts.Check(err)
	return systemOf(ts).frontEnds[n-1]
}

// fail is "fail TIMES CODE": the cluster's next operations fail.
func fail(ts *testscript.TestScript, _ bool, arguments []string) {
	times, err := strconv.Atoi(arguments[0])
	ts.Check(err)
	code, ok := dems.ParseCode(arguments[1])
	if !ok {
		ts.Fatalf("no code %s", arguments[1])
	}
	for range times {
		systemOf(ts).cluster.Fail(code)
	}
}

// reportIncident is "report KIND NODE BY DETAIL": an incident happens.
func reportIncident(ts *testscript.TestScript, _ bool, arguments []string) {
	incident := dems.Incident{Node: dems.NodeID(arguments[1]), By: arguments[2], Detail: arguments[3]}
	for _, kind := range dems.IncidentKinds() {
		if kind.String() == arguments[0] {
			incident.Kind = kind
		}
	}
	ts.Check(systemOf(ts).cluster.Report(incident))
}

// wantInjected is "injected NODE KIND REQUESTS DELAY" or, of a fault of the network, "injected NODE KIND DELAY JITTER DIRECTION
// LASTS PEER…" or "injected": the only fault there is, or that there is none.
func wantInjected(ts *testscript.TestScript, _ bool, arguments []string) {
	var got []string
	for id, fault := range systemOf(ts).cluster.Faults() {
		got = append(got, string(id), fault.Kind.String())
		if fault.Kind.OfNetwork() {
			got = append(got, fault.Delay.String(), fault.Jitter.String(), fault.Direction.String(), fault.Lasts.String())
			got = append(got, fault.Peers...)
			continue
		}
		got = append(got, strconv.Itoa(fault.Requests), fault.Delay.String())
	}
	if !slices.Equal(got, arguments) {
		ts.Fatalf("faults %v, want %v", got, arguments)
	}
}

// wantRequests is "requests FRONTEND COUNT": how many requests the front end has had.
func wantRequests(ts *testscript.TestScript, _ bool, arguments []string) {
	if got := strconv.Itoa(len(frontEnd(ts, arguments[0]).Requests())); got != arguments[1] {
		ts.Fatalf("front end %s has had %s requests, want %s", arguments[0], got, arguments[1])
	}
}

// wantOneKey is "onekey COUNT": so many requests have come in all, and every one with the same key.
func wantOneKey(ts *testscript.TestScript, _ bool, arguments []string) {
	keys, count := make(map[string]bool), 0
	for _, frontEnd := range systemOf(ts).frontEnds {
		for _, request := range frontEnd.Requests() {
			keys[request.Key] = true
			count++
		}
	}
	if strconv.Itoa(count) != arguments[0] || len(keys) != 1 || keys[""] {
		ts.Fatalf("%d requests with %d keys (%v), want %s with one", count, len(keys), keys, arguments[0])
	}
}

// wantJSON is "json FILE KEY=VALUE…": the file, stdout or stderr, is one JSON document with these values. A key is a path
// with dots; len is the length of an array.
func wantJSON(ts *testscript.TestScript, negated bool, arguments []string) {
	var document any
	decoder := json.NewDecoder(strings.NewReader(ts.ReadFile(arguments[0])))
	decoder.UseNumber()
	ts.Check(decoder.Decode(&document))
	if decoder.More() {
		ts.Fatalf("%s has more than one document", arguments[0])
	}
	for _, argument := range arguments[1:] {
		path, want, _ := strings.Cut(argument, "=")
		if got := lookUp(document, path); (got == want) == negated {
			ts.Fatalf("%s is %q, want %q (negated: %t)", path, got, want, negated)
		}
	}
}

func lookUp(document any, path string) string {
	for name := range strings.SplitSeq(path, ".") {
		switch value := document.(type) {
		case map[string]any:
			document = value[name]
		case []any:
			index, err := strconv.Atoi(name)
			switch {
			case name == "len":
				document = len(value)
			case err != nil || index >= len(value):
				return "absent"
			default:
				document = value[index]
			}
		default:
			return "absent"
		}
	}
	return fmt.Sprint(document)
}

// killDuringRequest is "killed ARGUMENT…": it runs demsctl, kills it with SIGKILL once its operation was applied, of which
// it never hears.
func killDuringRequest(ts *testscript.TestScript, _ bool, arguments []string) {
	s := systemOf(ts)
	s.frontEnds[0].Fault(onenode.HangAfter)
	executable, err := exec.LookPath("demsctl")
	ts.Check(err)
	command := exec.Command(executable, arguments...)
	command.Dir = ts.Getenv("WORK")
	command.Env = append(os.Environ(), "DEMS_ENDPOINTS="+ts.Getenv("URL1"), "DEMS_LOG_DIR="+ts.Getenv("DEMS_LOG_DIR"))
	before := s.cluster.Applied()
	applied := s.cluster.NextApplied()
	ts.Check(command.Start())
	ended := make(chan error, 1)
	go func() { ended <- command.Wait() }()
	select {
	case <-applied:
	case err := <-ended:
		ts.Fatalf("it ended by itself: %v", err)
	}
	ts.Check(command.Process.Kill())
	<-ended
	if got := s.cluster.Applied(); got != before+1 {
		ts.Fatalf("%d commands applied, want 1", got-before)
	}
}

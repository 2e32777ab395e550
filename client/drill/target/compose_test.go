//go:build unix

package target

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"dems"
)

// fakeEngine is a folder that testdata/docker takes for its containers.
type fakeEngine struct {
	t      *testing.T
	folder string
}

// startEngine puts testdata/docker in front of whatever command docker this machine has. It has the containers of project p:
// certificates, three nodes and a front end, and n1 of another project.
func startEngine(t *testing.T) *fakeEngine {
	t.Helper()
	script, err := filepath.Abs("testdata")
	if err != nil {
		t.Fatal(err)
	}
	e := &fakeEngine{t: t, folder: t.TempDir()}
	t.Setenv("PATH", script+string(os.PathListSeparator)+os.Getenv("PATH"))
	t.Setenv("STATE", e.folder)
	e.write("failures", "")
	e.write("commands", "")
	e.add("aaa0", "p", "pki", `"pki","all"`, "")
	for number := 1; number <= 3; number++ {
		e.add(fmt.Sprintf("aaa%d", number), "p", fmt.Sprintf("n%d", number), `"node"`, "")
	}
	e.add("aaa4", "p", "fe1", `"frontend"`, `"8080/tcp":[{"HostIp":"127.0.0.1","HostPort":"18080"}]`)
	e.add("bbb1", "q", "n1", `"node"`, "")
	return e
}

func (e *fakeEngine) write(name, text string) {
	e.t.Helper()
	if err := os.WriteFile(filepath.Join(e.folder, name), []byte(text), 0o600); err != nil {
		e.t.Fatal(err)
	}
}

func (e *fakeEngine) read(name string) string {
	e.t.Helper()
	data, err := os.ReadFile(filepath.Join(e.folder, name))
	if err != nil {
		e.t.Fatal(err)
	}
	return strings.TrimSpace(string(data))
}

// add makes a container that runs.
func (e *fakeEngine) add(id, project, service, command, ports string) {
	e.t.Helper()
	if err := os.Mkdir(filepath.Join(e.folder, id), 0o700); err != nil {
		e.t.Fatal(err)
	}
	e.write(id+"/inspect", fmt.Sprintf(`{"Id":"%s","State":{"Status":"STATUS"},"Config":{"Env":["PATH=/"],"Cmd":[%s],`+
		`"Labels":{"com.docker.compose.project":"%s","com.docker.compose.service":"%s"}},"NetworkSettings":{"Ports":{%s},"Networks":{NETWORKS}}}`,
		id, command, project, service, ports)+"\n")
	e.write(id+"/status", "running")
	e.write(id+"/networks", fmt.Sprintf(`"%s_cluster":{"Aliases":["%s","%s"]}`, project, service, id))
}

// did returns what the engine was told since the last call.
func (e *fakeEngine) did() []string {
	e.t.Helper()
	text := e.read("commands")
	e.write("commands", "")
	if text == "" {
		return nil
	}
	return strings.Split(text, "\n")
}

func (e *fakeEngine) open() *Compose {
	e.t.Helper()
	c, err := OpenCompose(e.t.Context(), "p")
	if err != nil {
		e.t.Fatal(err)
	}
	e.did()
	return c
}

func TestComposeFindsNodes(t *testing.T) {
	e := startEngine(t)
	c, err := OpenCompose(t.Context(), "p")
	if err != nil {
		t.Fatal(err)
	}
	want := map[dems.NodeID]string{"n1": "aaa1", "n2": "aaa2", "n3": "aaa3"}
	if diff := cmp.Diff(want, c.containers); diff != "" {
		t.Error(diff)
	}
	if nodes := c.Nodes(); !slices.Equal(nodes, []dems.NodeID{"n1", "n2", "n3"}) || !strings.Contains(c.Description(), "project p") {
		t.Errorf("%v, %s", nodes, c.Description())
	}
	first := "ps --all --no-trunc --quiet --filter label=com.docker.compose.project=p"
	if did := e.did(); len(did) != 2 || did[0] != first {
		t.Errorf("the engine was told %q", did)
	}
}

func TestComposeProjectThatIsNone(t *testing.T) {
	e := startEngine(t)
	e.add("ccc1", "empty", "web", `"nginx"`, "")
	e.add("ddd1", "twice", "n1", `"node"`, "")
	e.add("ddd2", "twice", "other", `"node","--id","n1"`, "")
	for project, said := range map[string]string{"nowhere": "has no containers", "empty": "no container of", "twice": "two containers of node n1"} {
		if _, err := OpenCompose(t.Context(), project); err == nil || !strings.Contains(err.Error(), said) {
			t.Errorf("%s: %v", project, err)
		}
	}
}

// TestComposeCommands breaks and mends a node in every way, and looks at what the engine was told.
func TestComposeCommands(t *testing.T) {
	e := startEngine(t)
	c := e.open()
	for _, test := range []struct {
		name   string
		do     func(context.Context, dems.NodeID) error
		told   []string
		status string
	}{
		{"kill", c.Kill, []string{"kill aaa2"}, "exited"},
		{"start", c.Start, []string{"start aaa2"}, "running"},
		{"pause", c.Pause, []string{"pause aaa2"}, "paused"},
		{"resume", c.Resume, []string{"unpause aaa2"}, "running"},
		{"restart", c.Restart, []string{"restart -t 20 aaa2"}, "running"},
		{"disconnect", c.Disconnect, []string{"container inspect aaa2", "network disconnect p_cluster aaa2"}, "running"},
		{"connect", c.Connect, []string{"container inspect aaa2", "network connect --alias n2 p_cluster aaa2"}, "running"},
		{"connect again", c.Connect, nil, "running"},
	} {
		if err := test.do(t.Context(), "n2"); err != nil {
			t.Errorf("%s: %v", test.name, err)
		}
		if diff := cmp.Diff(test.told, e.did()); diff != "" {
			t.Errorf("%s: %s", test.name, diff)
		}
		if status := e.read("aaa2/status"); status != test.status {
			t.Errorf("%s: the container is %s", test.name, status)
		}
		if err := test.do(t.Context(), "n9"); test.told != nil && (err == nil && test.name != "connect" || len(e.did()) > 0) {
			t.Errorf("%s of a node that there is not: %v", test.name, err)
		}
	}
	if networks := e.read("aaa2/networks"); networks != `"p_cluster":{"Aliases":["n2"]}` {
		t.Errorf("it is connected as %s", networks)
	}
}

func TestComposeHeals(t *testing.T) {
	e := startEngine(t)
	c, ctx := e.open(), t.Context()
	check(t, c.Kill(ctx, "n1"))
	check(t, c.Pause(ctx, "n2"))
	check(t, c.Disconnect(ctx, "n3"))
	e.write("aaa4/status", "exited") // none of the drill's doing
	check(t, c.Heal(ctx))
	for _, id := range []string{"aaa1", "aaa2", "aaa3"} {
		if status, networks := e.read(id+"/status"), e.read(id+"/networks"); status != "running" || !strings.Contains(networks, "p_cluster") {
			t.Errorf("%s is %s, connected to %q", id, status, networks)
		}
	}
	if status := e.read("aaa4/status"); status != "exited" {
		t.Errorf("a container that the drill did not touch is %s", status)
	}
	e.did()
	check(t, c.Heal(ctx))
	if did := e.did(); did != nil {
		t.Errorf("nothing was left to do, and the engine was told %q", did)
	}
}

// TestComposeHealsWhatFailed has commands fail that may have taken effect all the same, and healing fail at one of two nodes.
func TestComposeHealsWhatFailed(t *testing.T) {
	e := startEngine(t)
	c, ctx := e.open(), t.Context()
	e.write("failures", "pause\n")
	if err := c.Pause(ctx, "n1"); err == nil || !strings.Contains(err.Error(), "docker pause aaa1: Error response from daemon: pause does not work") {
		t.Errorf("pausing: %v", err)
	}
	e.write("aaa1/status", "paused")
	e.write("failures", "unpause\nnetwork connect\n")
	check(t, c.Kill(ctx, "n2"))
	check(t, c.Disconnect(ctx, "n3"))
	if err := c.Heal(ctx); err == nil || !strings.Contains(err.Error(), "unpause") || !strings.Contains(err.Error(), "network connect") {
		t.Errorf("healing what cannot be healed: %v", err)
	}
	if status := e.read("aaa2/status"); status != "running" {
		t.Errorf("n2 is %s: that others cannot be healed does not matter to it", status)
	}
	e.write("failures", "")
	check(t, c.Heal(ctx))
	if status, networks := e.read("aaa1/status"), e.read("aaa3/networks"); status != "running" || !strings.Contains(networks, `"n3"`) {
		t.Errorf("n1 is %s, n3 is connected to %q", status, networks)
	}
}

func TestComposeServes(t *testing.T) {
	c := startEngine(t).open()
	for endpoint, serves := range map[string]bool{
		"http://127.0.0.1:18080": true, "http://localhost:18080": true, "http://127.0.0.1:8080": false, "http://[::1]:8080": false,
		"http://dems.example:443": true,
	} {
		if err := c.Serves([]string{endpoint}); (err == nil) != serves {
			t.Errorf("%s: %v", endpoint, err)
		} else if err != nil && !strings.Contains(err.Error(), "18080") {
			t.Errorf("%s: the error does not say where it is: %v", endpoint, err)
		}
	}
}

func TestEngineThatFails(t *testing.T) {
	e := startEngine(t)
	silent := filepath.Join(e.folder, "silent")
	hanging := filepath.Join(e.folder, "hanging")
	for name, text := range map[string]string{silent: "#!/bin/sh\nexit 3\n", hanging: "#!/bin/sh\nexec sleep 60\n"} {
		if err := os.WriteFile(name, []byte(text), 0o700); err != nil {
			t.Fatal(err)
		}
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for _, test := range []struct {
		program string
		ctx     context.Context
		limit   time.Duration
		said    string
	}{
		{"no-such-engine", t.Context(), time.Minute, "there is no command no-such-engine"},
		{silent, t.Context(), time.Minute, "exit status 3"},
		{hanging, t.Context(), 10 * time.Millisecond, "did not end in time"},
		{hanging, ended, time.Minute, "did not end in time"},
	} {
		if _, err := (engine{program: test.program}).run(test.ctx, test.limit, "info"); err == nil || !strings.Contains(err.Error(), test.said) {
			t.Errorf("%s: %v", test.program, err)
		}
	}
	c := e.open()
	c.engine.program = silent
	for name, do := range map[string]func(context.Context, dems.NodeID) error{"disconnect": c.Disconnect, "kill": c.Kill} {
		if err := do(t.Context(), "n1"); err == nil {
			t.Errorf("%s succeeds without an engine", name)
		}
	}
	if err := c.Heal(t.Context()); err == nil {
		t.Error("healing succeeds without an engine")
	}
}

func TestBoundedOutput(t *testing.T) {
	var b bounded
	for range 3 {
		if n, err := b.Write(make([]byte, mostOutputBytes/2)); n != mostOutputBytes/2 || err != nil {
			t.Fatal(n, err)
		}
	}
	if !b.full || len(b.text) != mostOutputBytes {
		t.Errorf("%d bytes kept, full %t", len(b.text), b.full)
	}
}

func FuzzParseContainers(f *testing.F) {
	f.Add([]byte(`[{"Id":"a","State":{"Status":"running"},"Config":{"Cmd":["node"],"Env":["DEMSD_ID=n1"],"Labels":{"com.docker.compose.service":"x"}},` +
		`"NetworkSettings":{"Ports":{"1/tcp":[{"HostPort":"1"}],"2/tcp":null},"Networks":{"c":{"Aliases":["n1","a"]}}}}]`))
	f.Add([]byte(`[null]`))
	f.Add([]byte(`{}`))
	f.Fuzz(func(t *testing.T, data []byte) {
		containers, err := parseContainers(data)
		if err != nil {
			return
		}
		for i := range containers {
			if id, isNode := containers[i].node(); isNode && !dems.ValidName(string(id)) {
				t.Errorf("node %q", id)
			}
			containers[i].ports()
			for _, name := range containers[i].names([]string{"a", ""}) {
				if name == "" {
					t.Error("a name that is none")
				}
			}
		}
	})
}

//go:build linux

package target

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"dems"
)

// devProcesses are processes that look like those of a demsd dev, and whoever starts them again when they end.
type devProcesses struct {
	t      *testing.T
	folder string
	ended  context.Context
	group  sync.WaitGroup
}

// startProcesses starts nodes with their data in a folder. Relative has them named from where the processes run, as demsd dev
// does by default.
func startProcesses(t *testing.T, nodes int, relative bool) *devProcesses {
	t.Helper()
	ctx, cancel := context.WithCancel(context.Background())
	p := &devProcesses{t: t, folder: t.TempDir(), ended: ctx}
	t.Cleanup(func() {
		cancel()
		p.group.Wait()
	})
	marker := `{"version":1,"nodes":` + strconv.Itoa(nodes) + `,"cities":"TOR=Toronto"}`
	if err := os.WriteFile(filepath.Join(p.folder, "dev.json"), []byte(marker), 0o600); err != nil {
		t.Fatal(err)
	}
	for number := range nodes + 1 {
		id := "n" + strconv.Itoa(number)
		if number == 0 {
			id = devFrontEnd
		}
		if err := os.Mkdir(filepath.Join(p.folder, id), 0o700); err != nil {
			t.Fatal(err)
		}
		p.group.Go(func() { p.keep(id, relative) })
		p.await(id+" runs", func() bool { return p.pid(id) != 0 })
	}
	return p
}

// keep runs a node again and again.
func (p *devProcesses) keep(id string, relative bool) {
	for p.ended.Err() == nil {
		data := filepath.Join(p.folder, id)
		if relative {
			data = filepath.Join(".", id)
		}
		arguments := []string{"node", "--id", id, "--data-dir", data}
		if id == devFrontEnd {
			arguments = []string{"frontend", "--id", id, "--pid-dir", data, "--listen", "127.0.0.1:7000"}
		}
		command := exec.CommandContext(p.ended, os.Args[0], arguments...)
		command.Dir, command.Stderr = p.folder, os.Stderr
		_ = command.Run() // how it ends is the test's business
	}
}

// pid returns what a node's pid file says, 0 where there is none yet.
func (p *devProcesses) pid(id string) int {
	data, err := os.ReadFile(filepath.Join(p.folder, id, "pid"))
	if err != nil {
		return 0
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(data)))
	if err != nil {
		p.t.Fatal(err)
	}
	return pid
}

// state returns the state of a process as the kernel calls it, for example T for stopped.
func (p *devProcesses) state(pid int) string {
	data, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return ""
	}
	after := string(data[strings.LastIndexByte(string(data), ')')+1:])
	return strings.Fields(after)[0]
}

func (p *devProcesses) await(what string, condition func() bool) {
	p.t.Helper()
	ticker := time.NewTicker(time.Millisecond)
	defer ticker.Stop()
	for deadline := time.Now().Add(patience); !condition(); <-ticker.C {
		if time.Now().After(deadline) {
			p.t.Fatalf("not within %v: %s", patience, what)
		}
	}
}

func (p *devProcesses) open() *Dev {
	p.t.Helper()
	d, err := OpenDev(p.folder)
	if err != nil {
		p.t.Fatal(err)
	}
	return d
}

func TestDevKillsAndStarts(t *testing.T) {
	for _, relative := range []bool{false, true} {
		p := startProcesses(t, 2, relative)
		d, ctx := p.open(), within(t)
		before, other := p.pid("n1"), p.pid("n2")
		check(t, d.Kill(ctx, "n1"))
		check(t, d.Start(ctx, "n1"))
		if after := p.pid("n1"); after == before || p.state(after) == "" || p.state(before) != "" {
			t.Errorf("process %d is %q, %d before is %q", after, p.state(after), before, p.state(before))
		}
		if p.pid("n2") != other {
			t.Error("another node was ended, too")
		}
	}
}

func TestDevRestarts(t *testing.T) {
	p := startProcesses(t, 1, false)
	before := p.pid("n1")
	check(t, p.open().Restart(within(t), "n1"))
	if after := p.pid("n1"); after == before {
		t.Error("the same process runs")
	}
}

func TestDevStopsAndLetsGoOn(t *testing.T) {
	p := startProcesses(t, 2, false)
	d, ctx := p.open(), within(t)
	check(t, d.Pause(ctx, "n2"))
	p.await("n2 is stopped", func() bool { return p.state(p.pid("n2")) == "T" })
	check(t, d.Resume(ctx, "n1")) // it was not stopped
	check(t, d.Resume(ctx, "n2"))
	p.await("n2 goes on", func() bool { return p.state(p.pid("n2")) != "T" })
}

// TestDevHeals leaves everything broken that can be.
func TestDevHeals(t *testing.T) {
	p := startProcesses(t, 3, false)
	d, ctx := p.open(), within(t)
	killed, stopped := p.pid("n1"), p.pid("n3")
	check(t, d.Pause(ctx, "n2"))
	check(t, d.Pause(ctx, "n3"))
	check(t, d.Kill(ctx, "n1"))
	check(t, d.Kill(ctx, "n3")) // a process that was stopped can be killed, and is not there any more to go on
	p.await("n3 is another process", func() bool { return p.pid("n3") != stopped })
	check(t, d.Heal(ctx))
	p.await("all run", func() bool {
		for _, id := range []string{"n1", "n2", "n3"} {
			if state := p.state(p.pid(id)); state == "" || state == "T" {
				return false
			}
		}
		return p.pid("n1") != killed
	})
	if len(d.killed)+len(d.stopped) != 0 {
		t.Errorf("still to be mended: %v %v", d.killed, d.stopped)
	}
	check(t, d.Heal(ctx)) // nothing is left to do
}

// TestDevTouchesNoStranger has pid files that name this very process, and others that are not the node: nothing happens to them.
func TestDevTouchesNoStranger(t *testing.T) {
	p := startProcesses(t, 3, false)
	d, ctx := p.open(), within(t)
	other := startProcesses(t, 1, false) // n1 of another folder
	for name, text := range map[string]string{
		"this process":     strconv.Itoa(os.Getpid()),
		"another node":     strconv.Itoa(p.pid("n2")),
		"another cluster":  strconv.Itoa(other.pid("n1")),
		"nobody":           strconv.Itoa(1 << 22),
		"all processes":    "-1",
		"the first one":    "1",
		"no number":        "n1",
		"too much":         strings.Repeat("1", 100),
		"nothing":          "",
		"one's own group":  "0",
		"more than a line": strconv.Itoa(os.Getpid()) + "\n" + strconv.Itoa(os.Getpid()),
	} {
		if err := os.WriteFile(filepath.Join(p.folder, "n1", "pid"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		for what, do := range map[string]func(context.Context, dems.NodeID) error{"kill": d.Kill, "pause": d.Pause, "restart": d.Restart} {
			if err := do(ctx, "n1"); err == nil || !strings.Contains(err.Error(), "demsd dev") {
				t.Errorf("%s, %s: %v", name, what, err)
			}
		}
	}
	if err := d.Heal(ctx); err != nil {
		t.Error(err)
	}
	for _, pid := range []int{p.pid("n2"), other.pid("n1")} {
		if state := p.state(pid); state == "" || state == "T" {
			t.Errorf("process %d is %q", pid, state)
		}
	}
	if err := d.Kill(ctx, "n4"); err == nil || !strings.Contains(err.Error(), "no node") {
		t.Errorf("killing a node that there is not: %v", err)
	}
}

// TestDevThatDoesNotStartAgain bounds the waiting for it.
func TestDevThatDoesNotStartAgain(t *testing.T) {
	p := startProcesses(t, 1, false)
	d := p.open()
	ctx, cancel := context.WithCancel(within(t))
	check(t, d.Pause(ctx, "n1")) // so that it does not end when it is asked to
	cancel()
	if err := d.Restart(ctx, "n1"); err == nil || !strings.Contains(err.Error(), "has not ended") {
		t.Errorf("restart: %v", err)
	}
	check(t, syscall.Kill(p.pid("n1"), syscall.SIGKILL))
}

func TestDevServes(t *testing.T) {
	p := startProcesses(t, 2, false)
	d := p.open()
	for endpoint, serves := range map[string]bool{
		"http://127.0.0.1:7000": true, "http://localhost:7000/": true, "http://127.0.0.1:7001": false, "http://dems.example:7000": false, "://": false,
	} {
		if err := d.Serves([]string{"http://127.0.0.1:7000", endpoint}); (err == nil) != serves {
			t.Errorf("%s: %v", endpoint, err)
		} else if err != nil && !strings.Contains(err.Error(), "listens at http://127.0.0.1:7000") {
			t.Errorf("%s: the error does not say where it is: %v", endpoint, err)
		}
	}
	if err := os.Remove(filepath.Join(p.folder, devFrontEnd, "pid")); err != nil {
		t.Fatal(err)
	}
	if err := d.Serves(nil); err == nil || !strings.Contains(err.Error(), "fe1 does not run") {
		t.Errorf("without a front end: %v", err)
	}
	if got := d.Description(); !strings.Contains(got, p.folder) {
		t.Error(got)
	}
}

func TestDevFolderThatIsNone(t *testing.T) {
	if _, err := OpenDev(t.TempDir()); !errors.Is(err, os.ErrNotExist) || !strings.Contains(err.Error(), "--data-dir") {
		t.Errorf("no dev.json: %v", err)
	}
	folder := t.TempDir()
	for _, text := range []string{"", "{", `{"version":2,"nodes":3}`, `{"version":1,"nodes":0}`, `{"version":1,"nodes":10}`, strings.Repeat(" ", mostMarkerBytes+1)} {
		if err := os.WriteFile(filepath.Join(folder, "dev.json"), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if d, err := OpenDev(folder); err == nil {
			t.Errorf("%.40q: %v", text, d.Nodes())
		}
	}
}

func FuzzParseMarker(f *testing.F) {
	for _, text := range []string{`{"version":1,"nodes":3,"cities":"TOR=Toronto"}`, `{}`, `{"nodes":-1}`, ``} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, data []byte) {
		if nodes, err := parseMarker(data); err == nil && (nodes < 1 || nodes > mostDevNodes) {
			t.Errorf("%d nodes", nodes)
		}
	})
}

func TestFlagOf(t *testing.T) {
	for _, test := range []struct {
		line, value string
		found       bool
	}{
		{"node --id n1", "n1", true}, {"node --id=n1", "n1", true}, {"node --id", "", false}, {"node --identity n1", "", false},
		{"node --id= --id n1", "", true},
	} {
		if value, found := flagOf(strings.Fields(test.line), "--id"); value != test.value || found != test.found {
			t.Errorf("%q: %q, %t", test.line, value, found)
		}
	}
}

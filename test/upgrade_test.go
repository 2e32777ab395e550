//go:build linux

package test

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"dems"
	"dems/internal/planted"
)

const (
	oldVersion = "before"
	// buildDeadline bounds compiling one program.
	buildDeadline = 5 * time.Minute
)

// previousSource puts the source of the commit before into a folder.
func previousSource(t *testing.T) string {
	t.Helper()
	folder := t.TempDir()
	top := runTool(t, "", "git", "rev-parse", "--show-toplevel")
	// Where something is not committed yet, what is committed is the version before.
	commit := "HEAD"
	if runTool(t, top, "git", "status", "--porcelain", "--untracked-files=no") == "" {
		commit = "HEAD^"
	}
	if err := exec.Command("git", "-C", top, "rev-parse", "--verify", "--quiet", commit+"^{commit}").Run(); err != nil {
		t.Fatalf("the commit before this one is not here, so there is no version to upgrade from: clone it whole, or with --depth 2 (%v)", err)
	}
	archive := filepath.Join(folder, "source.tar")
	runTool(t, top, "git", "archive", "--output", archive, commit)
	source := filepath.Join(folder, "source")
	if err := os.Mkdir(source, 0o700); err != nil {
		t.Fatal(err)
	}
	runTool(t, "", "tar", "-x", "-f", archive, "-C", source)
	t.Logf("the version before is %s", runTool(t, top, "git", "log", "-1", "--format=%h %s", commit))
	return source
}

// buildDemsd builds demsd of a source folder, with a variable set by the linker, and returns the program. Libraries are compiled as
// for the other programs here, so they are taken from the build cache.
func buildDemsd(t *testing.T, source, variable string, flags ...string) string {
	t.Helper()
	program := filepath.Join(t.TempDir(), "demsd")
	arguments := append([]string{"build", "-o", program, "-ldflags", "-X " + variable}, flags...)
	runTool(t, source, "go", append(arguments, "./cmd/demsd")...)
	return program
}

// runTool runs a program that has to succeed, and returns what it wrote to standard output.
func runTool(t *testing.T, folder, name string, arguments ...string) string {
	t.Helper()
	var stdout, stderr strings.Builder
	command := exec.Command(name, arguments...)
	command.Dir, command.Stdout, command.Stderr = folder, &stdout, &stderr
	command.WaitDelay = time.Second
	timer := time.AfterFunc(buildDeadline, func() { _ = command.Process.Kill() })
	defer timer.Stop()
	if err := command.Run(); err != nil {
		t.Fatalf("%s: %v\n%s", strings.Join(command.Args, " "), err, stderr.String())
	}
	return strings.TrimSpace(stdout.String())
}

// versions returns the version that each node and front end registered with.
func (c *cluster) versions() (map[string]string, error) {
	var registry struct {
		Nodes, FrontEnds []struct{ ID, Version string }
	}
	if err := c.decode("/v1/registry", &registry); err != nil {
		return nil, err
	}
	versions := map[string]string{}
	for _, server := range append(registry.Nodes, registry.FrontEnds...) {
		versions[server.ID] = server.Version
	}
	return versions, nil
}

// upgrade ends a process in order and starts this source's version in its place.
func (c *handCluster) upgrade(name string) {
	c.t.Helper()
	delete(c.programs, name)
	c.restart(name)
	if name != "fe1" {
		c.waitHealthy(readyDeadline)
	}
	eventually(c.t, readyDeadline, name+" is registered as upgraded", func() error {
		versions, err := c.versions()
		if err == nil && versions[name] == oldVersion {
			err = errors.New("still the version before")
		}
		return err
	})
}

// TestRollingUpgrade runs a cluster of the commit before and replaces its processes by this version, one after the other, under
// load through a front end of either version. Folders are kept, snapshots and logs of before in them. No request fails.
func TestRollingUpgrade(t *testing.T) {
	old := buildDemsd(t, previousSource(t), "main.version="+oldVersion)
	environment := []string{"DEMSD_SNAPSHOT_INTERVAL=200ms", "DEMSD_SNAPSHOT_THRESHOLD=200", "DEMSD_TRAILING_LOGS=100"}
	c := &handCluster{cluster: newCluster(t, t.TempDir(), 3), environment: environment, programs: map[string]string{"fe1": old}}
	for _, name := range c.nodes {
		c.programs[name] = old
	}
	c.startAll()
	before, after := newTraffic(t, trafficWriters/2, c.rest()), (*traffic)(nil)
	before.start()
	before.waitFor(2000)
	newer := c.startFrontEnd("fe2") // a front end of this version, while all nodes are of the one before
	after = newTrafficFrom(t, trafficWriters/2, trafficWriters/2, newer.rest())
	after.start()
	after.waitFor(500)
	if versions, err := c.versions(); err != nil || versions["n1"] != oldVersion || versions["fe1"] != oldVersion || versions["fe2"] == oldVersion {
		t.Fatalf("%v, %v: no mixture of versions", versions, err)
	}
	for _, name := range append([]string{c.follower()}, c.nodes...) { // one of them twice: restarted from what the new version wrote
		c.upgrade(name)
		before.waitFor(300)
		after.waitFor(300)
	}
	for _, tr := range []*traffic{before, after} {
		tr.finish()
		tr.verify()
		tr.expectClean()
	}
	c.upgrade("fe1") // alone: whoever asks it just then turns to the other
	newer.waitEqual(20 * time.Second)
	before.verify()
	before.expectClean()
	c.expectNobodyPunished()
	c.expectSnapshots()
	t.Logf("%d answers, from the start on to the last process", before.done.Load()+after.done.Load())
}

// expectSnapshots checks that every node has taken snapshots, so that what was upgraded was not the log alone.
func (c *handCluster) expectSnapshots() {
	c.t.Helper()
	for _, name := range c.nodes {
		if found, err := filepath.Glob(filepath.Join(c.dataDir, name, "snapshots", "*-*")); err != nil || len(found) == 0 {
			c.t.Errorf("%s has no snapshot: %v", name, err)
		}
	}
}

// TestWrongVersionIsVotedOut upgrades one node to a version that counts monthly limits apart. Clients notice nothing. The node is
// replaced, and again, because every life of it is wrong, until it is left outside; nothing of it gets into the state. Then the
// upgrade is taken back.
func TestWrongVersionIsVotedOut(t *testing.T) {
	wrong := buildDemsd(t, "..", "dems/internal/planted.bug="+string(planted.MonthlyLimit), "-tags", "planted")
	c := startLinked(t, 3)
	tr := newTraffic(t, trafficWriters, c.rest())
	tr.start()
	tr.waitFor(1000)
	victim := c.leader()
	before := c.sequence()
	c.programs = map[string]string{victim: wrong}
	c.restart(victim)
	c.waitIncident("quarantine", victim, before, 2*time.Minute)
	c.expectOnlyReplaced(victim, before)
	tr.waitFor(500)
	delete(c.programs, victim)
	c.restart(victim)
	c.replace(victim)
	c.waitHealthy(readyDeadline)
	tr.waitFor(500)
	tr.finish()
	tr.verify()
	tr.expectClean()
	c.expectOnlyReplaced(victim, before)
	for _, n := range c.waitEqual(30 * time.Second).Nodes {
		if lives := uint64(dems.MaxReplacementsPerHour + 2); n.ID == victim && n.Incarnation != lives || n.ID != victim && n.Incarnation != 1 {
			t.Errorf("%s has incarnation %d", n.ID, n.Incarnation)
		}
	}
	t.Logf("%d answers; the wrong version was replaced %d times and then kept out", tr.done.Load(), dems.MaxReplacementsPerHour)
}

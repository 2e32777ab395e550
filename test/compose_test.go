//go:build linux

package test

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"dems/internal/conformance"
)

const (
	// composeDeadline bounds one command of the container engine; compiling for the image is the longest.
	composeDeadline = 5 * time.Minute
	// mostImageBytes is how large the image may be.
	mostImageBytes = 40 << 20
)

// composeCluster is the cluster of docker-compose.yml under a project name and an image of its own, so that one that runs
// on this machine is not touched.
type composeCluster struct {
	cluster
	command     []string // docker compose, or docker-compose
	project     string
	image       string
	environment []string
}

// newComposeCluster skips the test where no container engine answers: .ci/run asks before, and says so.
func newComposeCluster(t *testing.T) *composeCluster {
	t.Helper()
	c := &composeCluster{cluster: newCluster(t, t.TempDir(), 3), project: "dems-test-" + strconv.Itoa(os.Getpid())}
	c.image = c.project
	c.environment = append(os.Environ(), "COMPOSE_PROJECT_NAME="+c.project, "DEMS_IMAGE="+c.image, "DEMS_PORT=0", "DEMS_PORT_2=0",
		"DEMSD_ENABLE_FAULTS=false")
	if got, err := c.try("docker", "info"); err != nil || got.status != 0 {
		t.Skipf("no container engine answers `docker info`: %v %v", err, got)
	}
	for _, command := range [][]string{{"docker", "compose"}, {"docker-compose"}} {
		if got, err := c.try(append(command, "version")...); err == nil && got.status == 0 {
			c.command = command
			return c
		}
	}
	t.Skip("there is a container engine, but neither docker compose nor docker-compose")
	return nil
}

// try runs a command in the root of the source tree; the error says that it could not be run.
func (c *composeCluster) try(command ...string) (outcome, error) {
	ctx, cancel := context.WithTimeout(context.Background(), composeDeadline) // cleaning up outlives the test's context
	defer cancel()
	var stdout, stderr strings.Builder
	run := exec.CommandContext(ctx, command[0], command[1:]...)
	run.Dir, run.Env, run.Stdout, run.Stderr, run.WaitDelay = "..", c.environment, &stdout, &stderr, time.Second
	err := run.Run()
	if _, exited := errors.AsType[*exec.ExitError](err); err != nil && !exited {
		return outcome{}, err
	}
	return outcome{run.ProcessState.ExitCode(), stdout.String(), stderr.String()}, nil
}

// run runs a command that has to succeed and returns what it wrote to standard output.
func (c *composeCluster) run(command ...string) string {
	c.t.Helper()
	got, err := c.try(command...)
	if err != nil || got.status != 0 {
		c.t.Fatalf("%s: %v %v", strings.Join(command, " "), err, got)
	}
	return strings.TrimSpace(got.stdout)
}

func (c *composeCluster) compose(args ...string) string {
	c.t.Helper()
	return c.run(slices.Concat(c.command, args)...)
}

// up brings the cluster up, or back to what docker-compose.yml says, and waits until it is ready.
func (c *composeCluster) up() {
	c.t.Helper()
	c.compose("up", "-d")
	c.compose("exec", "-T", "fe1", "demsd", "health", "frontend", "--wait", "1m")
	c.url = "http://" + c.compose("port", "fe1", "8080")
}

// remove leaves nothing of the cluster behind.
func (c *composeCluster) remove() {
	if c.t.Failed() {
		got, err := c.try(slices.Concat(c.command, []string{"logs", "--no-color", "--tail", "60"})...)
		c.t.Logf("%v %v", err, got)
	}
	for _, command := range [][]string{
		slices.Concat(c.command, []string{"--profile", "second", "down", "--volumes"}), {"docker", "image", "rm", c.image},
	} {
		if got, err := c.try(command...); err != nil || got.status != 0 {
			c.t.Errorf("%v: %v %v", command, err, got)
		}
	}
}

// container returns the ID of a service's container. The labels are the same for every version of compose.
func (c *composeCluster) container(service string) string {
	c.t.Helper()
	id := c.run("docker", "ps", "--quiet", "--no-trunc", "--all",
		"--filter", "label=com.docker.compose.project="+c.project, "--filter", "label=com.docker.compose.service="+service)
	if id == "" || strings.ContainsAny(id, " \n") {
		c.t.Fatalf("containers of %s: %q", service, id)
	}
	return id
}

// inspect returns what the engine says of a service's container.
func (c *composeCluster) inspect(service, format string) string {
	c.t.Helper()
	return c.run("docker", "inspect", "--format", format, c.container(service))
}

// control runs demsctl from outside the containers; it has to succeed.
func (c *composeCluster) control(args ...string) string {
	c.t.Helper()
	return c.run(append([]string{demsctl(), "--endpoint", c.url, "--log-dir", filepath.Join(c.dataDir, "log")}, args...)...)
}

// change makes the capacity of the event another one, as a client would that does not know of any trouble.
func (c *composeCluster) change(capacity int) {
	c.t.Helper()
	c.must("TORM0001", conformance.Operation{"op": "addEvent", "eventID": "TORM100519", "eventType": "seminar", "capacity": capacity})
}

// TestCompose brings up what the README promises, books a seat, and takes away a node in each of the ways that an engine has.
func TestCompose(t *testing.T) {
	c := newComposeCluster(t)
	started := time.Now()
	t.Cleanup(c.remove)
	c.run("make", "image")
	c.up()
	c.control("--user", "TORM0001", "event", "add", "TORM100519", "seminar", "--capacity", "3")
	c.control("--user", "MTLC0001", "book", "TORM100519", "seminar")
	t.Logf("a seat booked %v after the start, the image included", time.Since(started).Round(time.Millisecond))
	c.waitEqual(readyDeadline)
	for _, part := range []struct {
		name string
		run  func(t *testing.T, c *composeCluster)
	}{
		{"image and containers are closed", checkClosed}, {"a second up changes nothing", checkSecondUp},
		{"health checks pass", checkHealth}, {"second front end", checkSecondFrontEnd},
		{"leader killed", checkKilled}, {"leader paused", checkPaused}, {"leader disconnected", checkDisconnected},
		{"down and up", checkDownAndUp},
	} {
		t.Run(part.name, func(t *testing.T) {
			within := *c
			within.t, within.cluster.t = t, t
			part.run(t, &within)
			c.url = within.url
		})
	}
}

// checkClosed looks at how little the servers may do, and who reaches them.
func checkClosed(t *testing.T, c *composeCluster) {
	if size, err := strconv.Atoi(c.run("docker", "image", "inspect", "--format", "{{.Size}}", c.image)); err != nil || size > mostImageBytes {
		t.Errorf("the image has %d bytes, %v; at most %d", size, err, mostImageBytes)
	}
	for _, service := range []string{"n1", "n2", "n3", "fe1"} {
		const want = "65532:65532 true [ALL] unless-stopped 1073741824 1000000000 256"
		got := c.inspect(service, "{{.Config.User}} {{.HostConfig.ReadonlyRootfs}} {{.HostConfig.CapDrop}} {{.HostConfig.RestartPolicy.Name}} "+
			"{{.HostConfig.Memory}} {{.HostConfig.NanoCpus}} {{.HostConfig.PidsLimit}}")
		if got != want {
			t.Errorf("%s is %s, want %s", service, got, want)
		}
		if volumes := c.inspect(service, "{{range .Mounts}}{{.Name}} {{.Destination}} {{.RW}};{{end}}"); strings.Contains(volumes, "authority") ||
			!strings.Contains(volumes, "/pki false;") {
			t.Errorf("%s has the volumes %s", service, volumes)
		}
		if ports := c.inspect(service, "{{range .NetworkSettings.Ports}}{{range .}}{{.HostIp}} {{end}}{{end}}"); ports != "" && (ports != "127.0.0.1" || service != "fe1") {
			t.Errorf("%s is reached at %s", service, ports)
		}
	}
	_, port, err := net.SplitHostPort(strings.TrimPrefix(c.url, "http://"))
	if err != nil || !strings.HasPrefix(c.url, "http://127.0.0.1:") || port == "0" {
		t.Errorf("the front end is at %s", c.url)
	}
}

func checkSecondUp(t *testing.T, c *composeCluster) {
	services := []string{"n1", "n2", "n3", "fe1"}
	var before []string
	for _, service := range services {
		before = append(before, c.inspect(service, "{{.Id}} {{.State.StartedAt}}"))
	}
	c.up()
	for i, service := range services {
		if after := c.inspect(service, "{{.Id}} {{.State.StartedAt}}"); after != before[i] {
			t.Errorf("%s was %s and is %s", service, before[i], after)
		}
	}
	if said := c.compose("logs", "pki"); !strings.HasSuffix(said, "every certificate is there in /pki") {
		t.Errorf("the second time, the certificates' service said:\n%s", said)
	}
}

func checkHealth(t *testing.T, c *composeCluster) {
	for _, service := range []string{"n1", "n2", "n3", "fe1"} {
		eventually(t, readyDeadline, service+" healthy", func() error {
			if health := c.inspect(service, "{{.State.Health.Status}}"); health != "healthy" {
				return errors.New(health)
			}
			return nil
		})
	}
}

func checkSecondFrontEnd(t *testing.T, c *composeCluster) {
	c.compose("--profile", "second", "up", "-d")
	c.compose("--profile", "second", "exec", "-T", "fe2", "demsd", "health", "frontend", "--wait", "1m")
	c.url = "http://" + c.compose("--profile", "second", "port", "fe2", "8080")
	if schedule := c.control("--user", "MTLC0001", "schedule"); !strings.Contains(schedule, "TORM100519") {
		t.Errorf("the second front end says\n%s", schedule)
	}
	c.url = "http://" + c.compose("port", "fe1", "8080")
}

func checkKilled(_ *testing.T, c *composeCluster) {
	leader := c.leader()
	c.compose("kill", leader)
	c.change(4)
	c.up()
	c.waitEqual(readyDeadline)
}

func checkPaused(_ *testing.T, c *composeCluster) {
	leader := c.leader()
	c.compose("pause", leader)
	c.change(5)
	c.compose("unpause", leader)
	c.waitEqual(readyDeadline)
}

func checkDisconnected(t *testing.T, c *composeCluster) {
	leader := c.leader()
	network, container := c.project+"_cluster", c.container(leader)
	c.run("docker", "network", "disconnect", network, container)
	c.change(6)
	eventually(t, readyDeadline, leader+" seen as down", func() error {
		status, err := c.clusterStatus()
		for _, node := range status.Nodes {
			if node.ID == leader && node.State != "down" {
				err = fmt.Errorf("%+v", node)
			}
		}
		return err
	})
	c.run("docker", "network", "connect", "--alias", leader, network, container)
	c.waitEqual(readyDeadline)
}

// checkDownAndUp shows that the data outlives the containers.
func checkDownAndUp(t *testing.T, c *composeCluster) {
	c.compose("--profile", "second", "down")
	c.up()
	if schedule := c.control("--user", "MTLC0001", "schedule"); !strings.Contains(schedule, "TORM100519") {
		t.Errorf("the seat is gone:\n%s", schedule)
	}
	if seats := c.control("--user", "TORM0001", "event", "list", "seminar", "-o", "json"); !strings.Contains(strings.ReplaceAll(seats, " ", ""), `"capacity":6`) {
		t.Errorf("the last change is gone:\n%s", seats)
	}
	c.waitEqual(readyDeadline)
}

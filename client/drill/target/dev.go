package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net"
	"net/netip"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync"
	"time"

	"dems"
)

const (
	// devFrontEnd is the name of the front end of a development cluster.
	devFrontEnd = "fe1"
	// mostDevNodes is how many nodes a development cluster can have.
	mostDevNodes = 9
	// mostMarkerBytes and mostPIDBytes are more than the files have that they are about.
	mostMarkerBytes = 64 << 10
	mostPIDBytes    = 32
)

// Dev is a cluster of `demsd dev` on this machine, known by its data folder. Whatever ends there is started again at once by
// demsd dev itself.
type Dev struct {
	folder string // absolute
	nodes  []dems.NodeID

	mu sync.Mutex
	// killed holds the process IDs that were killed last, until another process was seen in their place.
	killed map[dems.NodeID]int
	// stopped holds the processes that were stopped and have not been told to go on.
	stopped map[dems.NodeID]*os.Process
}

// OpenDev returns the cluster that keeps its data in a folder. It need not run.
func OpenDev(dataDir string) (*Dev, error) {
	if !hasSignals {
		return nil, errors.New("processes cannot be stopped and killed here; use --compose, or run the drill where demsd dev runs")
	}
	folder, err := filepath.Abs(dataDir)
	if err != nil {
		return nil, err
	}
	marker, err := readFile(filepath.Join(folder, "dev.json"), mostMarkerBytes)
	if err != nil {
		return nil, fmt.Errorf("%s is not the data folder of a demsd dev (%w); name the folder of the one that runs with --data-dir, or a compose project with --compose", dataDir, err)
	}
	count, err := parseMarker(marker)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", filepath.Join(folder, "dev.json"), err)
	}
	d := &Dev{folder: folder, killed: make(map[dems.NodeID]int), stopped: make(map[dems.NodeID]*os.Process)}
	for number := range count {
		d.nodes = append(d.nodes, dems.NodeID("n"+strconv.Itoa(number+1)))
	}
	return d, nil
}

// parseMarker returns how many nodes a development cluster has, by its file dev.json.
func parseMarker(data []byte) (nodes int, err error) {
	var marker struct {
		Version int `json:"version"`
		Nodes   int `json:"nodes"`
	}
	if err := json.Unmarshal(data, &marker); err != nil {
		return 0, fmt.Errorf("the file is damaged: %w", err)
	}
	if marker.Version != 1 || marker.Nodes < 1 || marker.Nodes > mostDevNodes {
		return 0, fmt.Errorf("version %d with %d nodes is not known here; use the demsctl that came with that demsd", marker.Version, marker.Nodes)
	}
	return marker.Nodes, nil
}

// Description implements Cluster.
func (d *Dev) Description() string {
	return fmt.Sprintf("%d nodes of demsd dev, data folder %s", len(d.nodes), d.folder)
}

// Nodes implements Cluster.
func (d *Dev) Nodes() []dems.NodeID { return slices.Clone(d.nodes) }

// Serves implements Cluster: every endpoint is where the front end of that folder listens.
func (d *Dev) Serves(endpoints []string) error {
	frontEnd, err := d.find(frontEndRole, devFrontEnd)
	if err != nil {
		return err
	}
	listens, _ := flagOf(frontEnd.arguments, "--listen")
	_, port, err := net.SplitHostPort(listens)
	if err != nil {
		return fmt.Errorf("%s of %s listens at %q: %w", devFrontEnd, d.folder, listens, err)
	}
	for _, endpoint := range endpoints {
		if at, local := localPort(endpoint); !local || at != port {
			return fmt.Errorf("%s is not the front end of %s, which listens at http://%s: give that as --endpoint, or another --data-dir", endpoint, d.folder, listens)
		}
	}
	return nil
}

// localPort returns the port of a URL, and whether it is one of this machine.
func localPort(endpoint string) (port string, local bool) {
	parsed, err := url.Parse(strings.TrimSpace(endpoint))
	if err != nil {
		return "", false
	}
	address, _ := netip.ParseAddr(parsed.Hostname())
	return parsed.Port(), parsed.Hostname() == "localhost" || address.IsLoopback()
}

// Kill implements Cluster.
func (d *Dev) Kill(_ context.Context, id dems.NodeID) error {
	node, err := d.find(nodeRole, string(id))
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.killed[id] = node.process.Pid
	return d.signal(id, node, signalKill)
}

// Start implements Cluster. It waits for demsd dev, which starts what has ended.
func (d *Dev) Start(ctx context.Context, id dems.NodeID) error {
	d.mu.Lock()
	before := d.killed[id]
	d.mu.Unlock()
	if err := d.awaitSuccessor(ctx, id, before); err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.killed[id] == before {
		delete(d.killed, id)
	}
	return nil
}

// Restart implements Cluster.
func (d *Dev) Restart(ctx context.Context, id dems.NodeID) error {
	node, err := d.find(nodeRole, string(id))
	if err != nil {
		return err
	}
	if err := d.signal(id, node, signalEnd); err != nil {
		return err
	}
	return d.awaitSuccessor(ctx, id, node.process.Pid)
}

// Pause implements Cluster.
func (d *Dev) Pause(_ context.Context, id dems.NodeID) error {
	node, err := d.find(nodeRole, string(id))
	if err != nil {
		return err
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	d.stopped[id] = node.process
	return d.signal(id, node, signalStop)
}

// Resume implements Cluster. That a process has ended meanwhile is no error: nothing is left to go on.
func (d *Dev) Resume(_ context.Context, id dems.NodeID) error {
	d.mu.Lock()
	defer d.mu.Unlock()
	process := d.stopped[id]
	if process == nil {
		return nil
	}
	if err := process.Signal(signalContinue); err != nil && !errors.Is(err, os.ErrProcessDone) {
		return fmt.Errorf("let %s go on: %w; do it by hand: kill -CONT %d", id, err, process.Pid)
	}
	delete(d.stopped, id)
	return nil
}

// Heal implements Cluster.
func (d *Dev) Heal(ctx context.Context) error {
	var all []error
	for _, id := range d.nodes {
		all = append(all, d.Resume(ctx, id))
	}
	for _, id := range d.nodes {
		d.mu.Lock()
		_, killed := d.killed[id]
		d.mu.Unlock()
		if killed {
			all = append(all, d.Start(ctx, id))
		}
	}
	return errors.Join(all...)
}

// awaitSuccessor waits until a node runs as another process than before.
func (d *Dev) awaitSuccessor(ctx context.Context, id dems.NodeID, before int) error {
	ticker := time.NewTicker(lookInterval)
	defer ticker.Stop()
	for {
		node, err := d.find(nodeRole, string(id))
		if err == nil && node.process.Pid != before {
			return nil
		}
		select {
		case <-ctx.Done():
			if err == nil {
				err = fmt.Errorf("process %d has not ended", before)
			}
			return fmt.Errorf("demsd dev has not started %s again: %w; see its log, and %s", id, err, filepath.Join(d.folder, string(id), "log"))
		case <-ticker.C:
		}
	}
}

// running is a process that was found to have a part in this cluster. Its handle never becomes that of a stranger, where the
// system has such handles.
type running struct {
	process   *os.Process
	arguments []string
}

// find returns the process that has a part in the cluster, after it has made sure that it is one: a pid file may outlive its
// process, and the number may belong to a stranger by now.
func (d *Dev) find(of role, name string) (running, error) {
	if of == nodeRole && !slices.Contains(d.nodes, dems.NodeID(name)) {
		return running{}, noNode(dems.NodeID(name), d.nodes)
	}
	folder := filepath.Join(d.folder, name)
	file := filepath.Join(folder, "pid")
	text, err := readFile(file, mostPIDBytes)
	if err != nil {
		return running{}, fmt.Errorf("%s does not run (%w); start demsd dev --data-dir %s", name, err, d.folder)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return running{}, fmt.Errorf("%s names no process; start demsd dev --data-dir %s again", file, d.folder)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return running{}, fmt.Errorf("%s does not run: process %d: %w", name, pid, err)
	}
	line, err := commandOf(pid)
	if err != nil || !line.is(of, name, folder) {
		return running{}, fmt.Errorf("%s does not run: process %d, which %s names, is another one; start demsd dev --data-dir %s", name, pid, file, d.folder)
	}
	return running{process: process, arguments: line.arguments}, nil
}

// signal sends a signal to a node.
func (d *Dev) signal(id dems.NodeID, node running, signal os.Signal) error {
	if err := node.process.Signal(signal); err != nil {
		return fmt.Errorf("signal %v to %s, process %d: %w; run the drill as the user who runs demsd dev", signal, id, node.process.Pid, err)
	}
	return nil
}

// command is a process's command line, and the folder that relative names in it start from.
type command struct {
	arguments     []string
	workingFolder string
}

// role is a part that a process has in a cluster: how its command line shows that.
type role struct{ command, folderFlag string }

var (
	nodeRole     = role{"node", "--data-dir"}
	frontEndRole = role{"frontend", "--pid-dir"}
)

// is tells whether a command line is that of a process with a name and with its files in a folder.
func (c command) is(of role, name, folder string) bool {
	named, _ := flagOf(c.arguments, "--id")
	files, found := flagOf(c.arguments, of.folderFlag)
	if !found || named != name || !slices.Contains(c.arguments, of.command) {
		return false
	}
	if !filepath.IsAbs(files) {
		files = filepath.Join(c.workingFolder, files)
	}
	theirs, err := os.Stat(files)
	if err != nil {
		return false
	}
	ours, err := os.Stat(folder)
	return err == nil && os.SameFile(theirs, ours)
}

// flagOf returns the value of a flag on a command line, written as --flag value or --flag=value.
func flagOf(arguments []string, flag string) (string, bool) {
	for i, argument := range arguments {
		if value, found := strings.CutPrefix(argument, flag+"="); found {
			return value, true
		}
		if argument == flag && i+1 < len(arguments) {
			return arguments[i+1], true
		}
	}
	return "", false
}

// readFile reads a file that is small.
func readFile(name string, mostBytes int64) ([]byte, error) {
	file, err := os.Open(name)
	if err != nil {
		return nil, err
	}
	defer file.Close()
	data, err := io.ReadAll(io.LimitReader(file, mostBytes+1))
	if err == nil && int64(len(data)) > mostBytes {
		err = fmt.Errorf("%s is larger than %d bytes", name, mostBytes)
	}
	return data, err
}

package target

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
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

// Serves implements Cluster: the nodes' processes listen where the registry says that they are.
func (d *Dev) Serves(_ context.Context, endpoints []string, registry dems.Registry) error {
	for _, id := range d.nodes {
		node, err := d.find(id)
		if err != nil {
			return err
		}
		listens, _ := flagOf(node.arguments, "--listen")
		at := slices.IndexFunc(registry.Nodes, func(r dems.Registration) bool { return r.ID == string(id) })
		if at < 0 || registry.Nodes[at].Address != listens {
			return fmt.Errorf("%s of %s listens at %s, and %s knows another one; give the --endpoint of the cluster in that folder",
				id, d.folder, listens, strings.Join(endpoints, ", "))
		}
	}
	return nil
}

// Kill implements Cluster.
func (d *Dev) Kill(_ context.Context, id dems.NodeID) error {
	node, err := d.find(id)
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
	node, err := d.find(id)
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
	node, err := d.find(id)
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
		node, err := d.find(id)
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

// running is a process that was found to be a node of this cluster. Its handle never becomes that of a stranger, where the
// system has such handles.
type running struct {
	process   *os.Process
	arguments []string
}

// find returns the process of a node, after it has made sure that it is one: a pid file may outlive its process, and the number
// may belong to a stranger by now.
func (d *Dev) find(id dems.NodeID) (running, error) {
	if !slices.Contains(d.nodes, id) {
		return running{}, noNode(id, d.nodes)
	}
	folder := filepath.Join(d.folder, string(id))
	file := filepath.Join(folder, "pid")
	text, err := readFile(file, mostPIDBytes)
	if err != nil {
		return running{}, fmt.Errorf("%s does not run (%w); start demsd dev --data-dir %s", id, err, d.folder)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(text)))
	if err != nil || pid <= 1 {
		return running{}, fmt.Errorf("%s names no process; start demsd dev --data-dir %s again", file, d.folder)
	}
	process, err := os.FindProcess(pid)
	if err != nil {
		return running{}, fmt.Errorf("%s does not run: process %d: %w", id, pid, err)
	}
	line, err := commandOf(pid)
	if err != nil || !line.isNode(id, folder) {
		return running{}, fmt.Errorf("%s does not run: process %d, which %s names, is not that node; start demsd dev --data-dir %s", id, pid, file, d.folder)
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

// isNode tells whether a command line is that of a node with its data in a folder.
func (c command) isNode(id dems.NodeID, folder string) bool {
	named, _ := flagOf(c.arguments, "--id")
	data, found := flagOf(c.arguments, "--data-dir")
	if !found || named != string(id) || !slices.Contains(c.arguments, "node") {
		return false
	}
	if !filepath.IsAbs(data) {
		data = filepath.Join(c.workingFolder, data)
	}
	theirs, err := os.Stat(data)
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

package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/spf13/cobra"

	"dems"
	"dems/transport"
)

const (
	devFrontEndID = "fe1"
	// readyTimeout is how long a development cluster may take until everything answers.
	readyTimeout = time.Minute
	// readyInterval is how often it is asked.
	readyInterval = 20 * time.Millisecond
)

type devFlags struct {
	listen, dataDir, reply, cities string
	nodes                          int
}

func newDevCommand() *cobra.Command {
	var flags devFlags
	command := &cobra.Command{
		Use:   "dev",
		Short: "Run a whole cluster on this machine",
		Long: `dev runs node processes and a front end on this machine, for development and for a first look. It makes their
certificates, prints "ready: URL" once everything answers, starts a process again when it dies, and keeps its data: the
next start with the same folder continues where the last one ended. Nodes can be made to misbehave, for drills: see
demsctl fault.`,
		Example: `  demsd dev
  demsd dev --listen 127.0.0.1:0 --nodes 5 --data-dir /tmp/dems`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			logger, err := newLogger(command)
			if err != nil {
				return err
			}
			level, err := command.Flags().GetString("log-level")
			if err != nil {
				return err
			}
			d := &dev{flags: flags, level: level, logger: logger, stdout: command.OutOrStdout()}
			return d.run(command.Context())
		},
	}
	set := command.Flags()
	set.StringVar(&flags.listen, "listen", "127.0.0.1:8080", "HOST:PORT to serve REST on; port 0 takes a free one")
	set.StringVar(&flags.dataDir, "data-dir", "dems-data", "the folder that keeps the cluster's data")
	set.IntVar(&flags.nodes, "nodes", 3, "how many nodes, 1 to 9; the same for every start with one folder")
	set.StringVar(&flags.reply, "reply", "majority", "when the front end answers: majority or first")
	set.StringVar(&flags.cities, "cities", dems.DefaultCities().String(), "the cluster's cities; the same for every start with one folder")
	return command
}

// dev is a development cluster: processes of this same program, and whoever looks after them.
type dev struct {
	flags  devFlags
	level  string
	logger *slog.Logger
	stdout io.Writer
}

// devMarker is the file dev.json: what a data folder was made with.
type devMarker struct {
	Version int    `json:"version"`
	Nodes   int    `json:"nodes"`
	Cities  string `json:"cities"`
}

func (d *dev) run(ctx context.Context) error {
	if err := d.check(); err != nil {
		return usageError{err}
	}
	lock, err := d.prepare(ctx)
	if err != nil {
		return err
	}
	defer func() { _ = lock.Close() }() // releases the folder: no other process holds it any more
	frontEnd, err := freeAddress(ctx, d.flags.listen)
	if err != nil {
		return err
	}
	peers, err := d.nodeAddresses()
	if err != nil {
		return err
	}
	executable, err := os.Executable()
	if err != nil {
		return fmt.Errorf("find this program: %w", err)
	}
	supervisor := &supervisor{executable: executable, inherited: []*os.File{lock}, logger: d.logger}
	return d.supervise(ctx, supervisor, frontEnd, peers)
}

// supervise starts every process, prints the ready line, and ends everything in order: front end first, then nodes. It
// returns why a process could not start, or nil when the context has ended.
func (d *dev) supervise(ctx context.Context, s *supervisor, frontEnd string, peers []string) error {
	running, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	nodesRunning, stopNodes := context.WithCancel(context.WithoutCancel(ctx))
	defer stopNodes()
	ready := make(chan struct{})
	failIf := func(err error) {
		if err != nil {
			fail(err)
		}
	}
	var nodes, others sync.WaitGroup
	for i := range d.flags.nodes {
		p := d.nodeProcess(i, peers)
		nodes.Go(func() { failIf(s.keep(nodesRunning, running, p, ready)) })
	}
	others.Go(func() { failIf(s.keep(running, running, d.frontEndProcess(frontEnd, peers), ready)) })
	others.Go(func() { failIf(d.announce(running, "http://"+frontEnd, ready)) })
	<-running.Done()
	others.Wait()
	stopNodes()
	nodes.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(running)
}

func (d *dev) check() error {
	if d.flags.nodes < 1 || d.flags.nodes > 9 {
		return fmt.Errorf("--nodes %d: use 1 to 9", d.flags.nodes)
	}
	if d.flags.dataDir == "" {
		return errors.New("--data-dir is required")
	}
	if d.flags.reply != "majority" && d.flags.reply != "first" {
		return fmt.Errorf("--reply %q: use majority or first", d.flags.reply)
	}
	cities, err := dems.ParseCities(d.flags.cities)
	if err != nil {
		return fmt.Errorf("--cities: %w", err)
	}
	d.flags.cities = cities.String()
	return checkLoopback(d.flags.listen, false)
}

// prepare makes the data folder and what belongs in it, or checks that what is there fits. The folder is this cluster's
// until the lock is closed.
func (d *dev) prepare(ctx context.Context) (lock *os.File, err error) {
	if err := os.MkdirAll(d.flags.dataDir, 0o700); err != nil {
		return nil, fmt.Errorf("data folder: %w", err)
	}
	if lock, err = lockFolder(ctx, d.flags.dataDir); err != nil {
		return nil, err
	}
	if d.isBeingRestored() {
		err := fmt.Errorf("restoring a backup into %s was interrupted: restore it again", d.flags.dataDir)
		return nil, errors.Join(err, lock.Close())
	}
	if err := d.checkMarker(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	if err := d.prepareCertificates(); err != nil {
		return nil, errors.Join(err, lock.Close())
	}
	return lock, nil
}

func (d *dev) checkMarker() error {
	file := filepath.Join(d.flags.dataDir, "dev.json")
	want := devMarker{Version: 1, Nodes: d.flags.nodes, Cities: d.flags.cities}
	data, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		encoded, err := json.Marshal(want)
		if err != nil {
			return err
		}
		if err := writeWhole(file, append(encoded, '\n')); err != nil {
			return fmt.Errorf("data folder: %w", err)
		}
		return nil
	}
	if err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	var have devMarker
	if err := json.Unmarshal(data, &have); err != nil {
		return fmt.Errorf("%s is damaged (%w); start with another --data-dir, or restore the file: it says %+v for a cluster as asked for now", file, err, want)
	}
	if have != want {
		return fmt.Errorf("%s was made for %d nodes and the cities %s; start with these or with another --data-dir",
			d.flags.dataDir, have.Nodes, have.Cities)
	}
	return nil
}

// writeWhole writes a file that is there whole or not at all, whenever this process is killed or power is lost.
func writeWhole(path string, data []byte) error {
	next, err := os.OpenFile(path+".new", os.O_CREATE|os.O_WRONLY|os.O_TRUNC, 0o644)
	if err != nil {
		return err
	}
	_, err = next.Write(data)
	if err := errors.Join(err, next.Sync(), next.Close()); err != nil {
		return err
	}
	return renameSynced(path+".new", path)
}

// renameSynced renames within a folder and syncs it.
func renameSynced(from, to string) error {
	if err := os.Rename(from, to); err != nil {
		return err
	}
	folder, err := os.Open(filepath.Dir(to))
	if err != nil {
		return err
	}
	return errors.Join(folder.Sync(), folder.Close())
}

func (d *dev) pkiDir() string { return filepath.Join(d.flags.dataDir, "pki") }

func (d *dev) nodeID(i int) string { return "n" + strconv.Itoa(i+1) }

// prepareCertificates makes the authority and all certificates, or whichever of them are missing. New ones become the
// cluster's with one rename: a start that is killed leaves nothing that is in the way of the next.
func (d *dev) prepareCertificates() error {
	if _, err := os.Stat(d.pkiDir()); !errors.Is(err, os.ErrNotExist) {
		return d.makeCertificates(d.pkiDir())
	}
	next := d.pkiDir() + ".new"
	if err := os.RemoveAll(next); err != nil {
		return fmt.Errorf("certificates of a start that did not end: %w", err)
	}
	if err := d.makeCertificates(next); err != nil {
		return err
	}
	if err := renameSynced(next, d.pkiDir()); err != nil {
		return fmt.Errorf("certificates: %w", err)
	}
	return nil
}

func (d *dev) makeCertificates(dir string) error {
	wanted := []identity{{transport.RoleFrontEnd, devFrontEndID}}
	for i := range d.flags.nodes {
		wanted = append(wanted, identity{transport.RoleNode, d.nodeID(i)})
	}
	_, err := certificateStore{authorityDir: dir, dir: dir}.complete(wanted)
	return err
}

// freeAddress resolves port 0 to a free port, and finds out early that a port is in use.
func freeAddress(ctx context.Context, listen string) (string, error) {
	var listener net.Listener
	err := whileItLeaves(ctx, syscall.EADDRINUSE, func() (err error) {
		listener, err = net.Listen("tcp", listen)
		return err
	})
	if err != nil {
		return "", fmt.Errorf("listen on %s: %w; choose another --listen", listen, err)
	}
	return listener.Addr().String(), listener.Close()
}

// nodeAddresses takes a free UDP port for each node. Addresses are not part of the replicated state, so they may differ
// from start to start.
func (d *dev) nodeAddresses() ([]string, error) {
	addresses := make([]string, 0, d.flags.nodes)
	for range d.flags.nodes {
		socket, err := net.ListenPacket("udp", "127.0.0.1:0")
		if err != nil {
			return nil, fmt.Errorf("find a free UDP port: %w", err)
		}
		defer socket.Close() // after the loop: every port is a different one
		addresses = append(addresses, socket.LocalAddr().String())
	}
	return addresses, nil
}

func (d *dev) nodeProcess(i int, addresses []string) process {
	peers := make([]string, len(addresses))
	for j, address := range addresses {
		peers[j] = d.nodeID(j) + "=" + address
	}
	dir := filepath.Join(d.flags.dataDir, d.nodeID(i))
	return process{name: d.nodeID(i), dir: dir, args: []string{
		"node", "--id", d.nodeID(i), "--data-dir", dir, "--listen", addresses[i], "--peers", strings.Join(peers, ","),
		"--pki-dir", d.pkiDir(), "--cities", d.flags.cities, "--log-level", d.level, "--enable-faults",
	}}
}

func (d *dev) frontEndProcess(listen string, nodes []string) process {
	dir := filepath.Join(d.flags.dataDir, devFrontEndID)
	return process{name: devFrontEndID, dir: dir, args: []string{
		"frontend", "--id", devFrontEndID, "--listen", listen, "--nodes", strings.Join(nodes, ","),
		"--reply", d.flags.reply, "--pki-dir", d.pkiDir(), "--pid-dir", dir, "--log-level", d.level, "--enable-faults",
	}}
}

// announce prints the ready line once every node answers.
func (d *dev) announce(ctx context.Context, url string, ready chan<- struct{}) error {
	deadline := time.Now().Add(readyTimeout)
	client := &http.Client{Timeout: 2 * time.Second}
	defer client.CloseIdleConnections()
	for !d.everythingAnswers(ctx, client, url) {
		if time.Now().After(deadline) {
			return fmt.Errorf("not everything answers after %v; the logs are in %s/*/log", readyTimeout, d.flags.dataDir)
		}
		select {
		case <-ctx.Done():
			return nil
		case <-time.After(readyInterval):
		}
	}
	close(ready)
	_, err := fmt.Fprintf(d.stdout, "ready: %s\n", url)
	return err
}

func (d *dev) everythingAnswers(ctx context.Context, client *http.Client, url string) bool {
	get := func(path string) []byte {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, url+path, nil)
		if err != nil {
			return nil
		}
		response, err := client.Do(request)
		if err != nil {
			return nil
		}
		defer response.Body.Close()
		body, err := io.ReadAll(io.LimitReader(response.Body, 1<<20))
		if err != nil || response.StatusCode != http.StatusOK {
			return nil
		}
		return body
	}
	if get("/readyz") == nil {
		return false
	}
	var cluster struct {
		Nodes []struct {
			State string `json:"state"`
		} `json:"nodes"`
	}
	if json.Unmarshal(get("/v1/cluster"), &cluster) != nil {
		return false
	}
	healthy := 0
	for _, n := range cluster.Nodes {
		if n.State == "healthy" {
			healthy++
		}
	}
	return healthy == d.flags.nodes
}

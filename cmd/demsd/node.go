package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"maps"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"dems"
	"dems/node"
	"dems/transport"
)

// defaultPKIDir is where certificates are looked for and made unless --pki-dir says otherwise.
const defaultPKIDir = "dems-pki"

// garbagePercent is how much garbage a node lets pile up, in percent of what lives, unless GOGC says otherwise. Go's own
// default of 100 would have half of a node's memory be garbage; the state has few pointers, so collecting it is cheap.
const garbagePercent = 50

type nodeFlags struct {
	id, dataDir, listen, peers, pkiDir, cities, metricsListen string

	snapshotInterval                time.Duration
	snapshotThreshold, trailingLogs uint64

	enableFaults bool
}

func newNodeCommand() *cobra.Command {
	var flags nodeFlags
	command := &cobra.Command{
		Use:   "node",
		Short: "Run one node of a cluster",
		Long: `node runs one node: it keeps the replicated log and the state, executes every request and votes.
It needs a certificate of the cluster; see demsd pki. Start every node with the same --peers.`,
		Example: `  demsd pki init && demsd pki issue --role node --id n1
  demsd node --id n1 --data-dir /var/lib/dems --listen 10.0.0.1:7000 \
    --peers n1=10.0.0.1:7000,n2=10.0.0.2:7000,n3=10.0.0.3:7000`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			logger, err := newLogger(command)
			if err != nil {
				return err
			}
			return runNode(command.Context(), flags, logger)
		},
	}
	set := command.Flags()
	set.StringVar(&flags.id, "id", "", "the node's ID, for example n1 (required)")
	set.StringVar(&flags.dataDir, "data-dir", "", "the folder that keeps the node's data (required)")
	set.StringVar(&flags.listen, "listen", "", "HOST:PORT to listen on (UDP; required)")
	set.StringVar(&flags.peers, "peers", "", "every node of the cluster, this one too, as ID=HOST:PORT,… (required)")
	set.StringVar(&flags.pkiDir, "pki-dir", defaultPKIDir, "the folder with the cluster's certificates")
	set.StringVar(&flags.cities, "cities", dems.DefaultCities().String(), "the cluster's cities; the same for every node, for ever")
	set.StringVar(&flags.metricsListen, "metrics-listen", "", "HOST:PORT to serve /metrics on (TCP; default: nowhere)")
	set.BoolVar(&flags.enableFaults, "enable-faults", false, "for drills: let front ends make this node misbehave; never where data matters")
	defaults := node.DefaultConfig()
	set.DurationVar(&flags.snapshotInterval, "snapshot-interval", defaults.SnapshotInterval, "how often, times 1 to 2, the node looks whether a snapshot is due")
	set.Uint64Var(&flags.snapshotThreshold, "snapshot-threshold", defaults.SnapshotThreshold, "how many log entries since the last snapshot make one due")
	set.Uint64Var(&flags.trailingLogs, "trailing-logs", defaults.TrailingLogs, "how many log entries stay behind a snapshot for nodes that are late")
	return command
}

// parsePeers parses n1=HOST:PORT,n2=HOST:PORT.
func parsePeers(text string) (map[dems.NodeID]string, error) {
	peers := map[dems.NodeID]string{}
	for part := range strings.SplitSeq(text, ",") {
		id, address, ok := strings.Cut(strings.TrimSpace(part), "=")
		if !ok || !dems.ValidName(id) {
			return nil, fmt.Errorf("--peers %q: write ID=HOST:PORT,ID=HOST:PORT,…; an ID is a-z, 0-9 and hyphen", part)
		}
		if err := checkAddress(address); err != nil {
			return nil, fmt.Errorf("--peers %s: %w", id, err)
		}
		if _, twice := peers[dems.NodeID(id)]; twice {
			return nil, fmt.Errorf("--peers: %s stands twice", id)
		}
		peers[dems.NodeID(id)] = address
	}
	return peers, nil
}

// checkAddress refuses what is not HOST:PORT with a numeric port.
func checkAddress(address string) error {
	host, port, err := net.SplitHostPort(address)
	if err != nil {
		return fmt.Errorf("address %q: write HOST:PORT", address)
	}
	if _, err := strconv.ParseUint(port, 10, 16); err != nil || host == "" {
		return fmt.Errorf("address %q: write HOST:PORT with a host and a port from 0 to 65535", address)
	}
	return nil
}

func (f *nodeFlags) check() (map[dems.NodeID]string, dems.Cities, error) {
	for name, value := range map[string]string{"--id": f.id, "--data-dir": f.dataDir, "--listen": f.listen, "--peers": f.peers} {
		if value == "" {
			return nil, nil, usageError{fmt.Errorf("%s is required", name)}
		}
	}
	if !dems.ValidName(f.id) {
		return nil, nil, usageError{fmt.Errorf("--id %q: use 1 to 32 of a-z, 0-9 and hyphen, beginning with a letter", f.id)}
	}
	if _, _, err := net.SplitHostPort(f.listen); err != nil {
		return nil, nil, usageError{fmt.Errorf("--listen %q: write HOST:PORT", f.listen)}
	}
	peers, err := parsePeers(f.peers)
	if err != nil {
		return nil, nil, usageError{err}
	}
	if _, ok := peers[dems.NodeID(f.id)]; !ok {
		return nil, nil, usageError{fmt.Errorf("--peers does not name this node, %s", f.id)}
	}
	cities, err := dems.ParseCities(f.cities)
	if err != nil {
		return nil, nil, usageError{fmt.Errorf("--cities: %w", err)}
	}
	return peers, cities, nil
}

func runNode(ctx context.Context, flags nodeFlags, logger *slog.Logger) (err error) {
	peers, cities, err := flags.check()
	if err != nil {
		return err
	}
	if os.Getenv("GOGC") == "" {
		debug.SetGCPercent(garbagePercent)
	}
	logger = logger.With("node", flags.id)
	credentials, err := transport.LoadCredentials(flags.pkiDir, transport.RoleNode, flags.id)
	if err != nil {
		return err
	}
	if err := os.MkdirAll(flags.dataDir, 0o700); err != nil {
		return fmt.Errorf("data folder: %w", err)
	}
	socket, err := net.ListenPacket("udp", flags.listen)
	if err != nil {
		return fmt.Errorf("listen on %s (UDP): %w", flags.listen, err)
	}
	endpoint, err := transport.Listen(transport.Config{
		Credentials: credentials,
		PacketConn:  socket,
		Resolve: func(id dems.NodeID) (string, bool) {
			address, ok := peers[id]
			return address, ok
		},
		Logger:                logger,
		StatelessResetKeyFile: filepath.Join(flags.dataDir, "stateless-reset.key"),
		Faulty:                flags.enableFaults,
		Nodes:                 slices.Sorted(maps.Keys(peers)),
	})
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	defer func() { err = errors.Join(err, endpoint.Close()) }()
	registry := newRegistry()
	config := node.DefaultConfig()
	config.ID, config.DataDir, config.Peers, config.Cities = dems.NodeID(flags.id), flags.dataDir, peers, cities
	config.Endpoint, config.Address, config.Version = endpoint, peers[dems.NodeID(flags.id)], programVersion()
	config.SnapshotInterval, config.SnapshotThreshold, config.TrailingLogs = flags.snapshotInterval, flags.snapshotThreshold, flags.trailingLogs
	config.Logger, config.Metrics, config.EnableFaults = logger, registry, flags.enableFaults
	if flags.enableFaults {
		config.Failpoint = failpoint(os.Getenv(failpointsVariable), flags.id)
	}
	n, err := node.Open(ctx, config)
	if err != nil {
		if ctx.Err() != nil {
			return nil
		}
		return err
	}
	removePID, err := writePID(flags.dataDir)
	if err != nil {
		return err
	}
	defer removePID()
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error { return runLives(groupCtx, n, config) })
	if flags.metricsListen != "" {
		group.Go(func() error { return serveMetrics(groupCtx, flags.metricsListen, registry) })
	}
	return group.Wait()
}

// runLives runs a node. When the cluster has removed it, it is emptied and goes on as its next incarnation.
func runLives(ctx context.Context, n *node.Node, config node.Config) error {
	for {
		err := n.Run(ctx)
		replaced, ok := errors.AsType[*node.Replaced](err)
		if !ok {
			return err
		}
		if err = node.Empty(ctx, config, replaced); err == nil {
			n, err = node.Open(ctx, config)
		}
		if ctx.Err() != nil && err != nil {
			return nil // the next start goes on
		}
		if err != nil {
			return err
		}
	}
}

func newRegistry() *prometheus.Registry {
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return registry
}

// serveMetrics serves /metrics until the context ends.
func serveMetrics(ctx context.Context, address string, registry *prometheus.Registry) error {
	listener, err := net.Listen("tcp", address)
	if err != nil {
		return fmt.Errorf("serve metrics on %s: %w", address, err)
	}
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(registry, promhttp.HandlerOpts{}))
	server := &http.Server{Handler: mux, ReadHeaderTimeout: 5 * time.Second, ReadTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second}
	return serveUntil(ctx, server, listener, time.Second)
}

// serveUntil serves until the context ends and then lets requests in progress finish for at most grace.
func serveUntil(ctx context.Context, server *http.Server, listener net.Listener, grace time.Duration) error {
	stopped := make(chan error, 1)
	stop := context.AfterFunc(ctx, func() {
		drain, cancel := context.WithTimeout(context.WithoutCancel(ctx), grace)
		defer cancel()
		err := server.Shutdown(drain)
		if err != nil {
			err = errors.Join(err, server.Close())
		}
		stopped <- err
	})
	err := server.Serve(listener)
	if stop() { // not stopped by the context: Serve itself failed
		return err
	}
	<-stopped
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return err
}

// writePID writes the process ID to a folder's pid file, at once or not at all, and returns what removes it.
func writePID(dir string) (remove func(), err error) {
	file := filepath.Join(dir, "pid")
	next := file + ".new"
	if err := os.WriteFile(next, []byte(strconv.Itoa(os.Getpid())+"\n"), 0o644); err != nil {
		return nil, fmt.Errorf("write the process ID: %w", err)
	}
	if err := os.Rename(next, file); err != nil {
		return nil, fmt.Errorf("write the process ID: %w", err)
	}
	return func() { _ = os.Remove(file) }, nil // a stale file names a process that is gone; nothing depends on it
}

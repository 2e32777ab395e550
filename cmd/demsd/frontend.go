package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"strings"
	"time"

	"github.com/spf13/cobra"
	"golang.org/x/net/netutil"
	"golang.org/x/sync/errgroup"

	"dems"
	"dems/frontend"
	"dems/transport"
)

// maxConnections is how many clients may be connected at once; one more waits to be accepted until another leaves. Each
// costs about 20 KiB.
const maxConnections = 16384

type frontEndFlags struct {
	id, listen, nodes, url, reply, pkiDir, pidDir string
	insecure, enableFaults                        bool
	deadline                                      time.Duration
	batchesInFlight                               int
}

func newFrontEndCommand() *cobra.Command {
	var flags frontEndFlags
	command := &cobra.Command{
		Use:   "frontend",
		Short: "Run a front end of a cluster",
		Long: `frontend runs a front end: it serves REST to clients and answers only what a majority of the nodes answered.
It keeps nothing; run as many as you like. It needs a certificate of the cluster; see demsd pki.

Authentication is off: whoever reaches the front end may say to be anybody (header Dems-User). Therefore it listens on
loopback addresses only, unless --insecure is given.`,
		Example: `  demsd pki issue --role frontend --id fe1
  demsd frontend --id fe1 --listen 127.0.0.1:8080 --nodes 10.0.0.1:7000,10.0.0.2:7000,10.0.0.3:7000`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			logger, err := newLogger(command)
			if err != nil {
				return err
			}
			return runFrontEnd(command.Context(), flags, logger)
		},
	}
	set := command.Flags()
	set.StringVar(&flags.id, "id", "fe1", "the front end's ID; different for every front end of a cluster")
	set.StringVar(&flags.listen, "listen", "127.0.0.1:8080", "HOST:PORT to serve REST on (TCP)")
	set.StringVar(&flags.nodes, "nodes", "", "every node of the cluster as HOST:PORT,… (required)")
	set.StringVar(&flags.url, "url", "", "the URL that clients reach this front end by (default: http:// and the listening address)")
	set.StringVar(&flags.reply, "reply", string(frontend.ReplyMajority), "when to answer: majority, or first (fast, checked afterwards)")
	set.StringVar(&flags.pkiDir, "pki-dir", defaultPKIDir, "the folder with the cluster's certificates")
	set.StringVar(&flags.pidDir, "pid-dir", "", "a folder to write the process ID to, as a file named pid (default: none)")
	set.BoolVar(&flags.insecure, "insecure", false, "listen on any address although authentication is off")
	set.BoolVar(&flags.enableFaults, "enable-faults", false, "for drills: serve /v1/faults, by which anybody can make nodes misbehave that have the flag, too")
	set.DurationVar(&flags.deadline, "deadline", 10*time.Second, "how long a request may wait for a majority")
	set.IntVar(&flags.batchesInFlight, "batches-in-flight", 1, "how many batches may be on their way at once; more make smaller batches, and help where disks or lines are slow")
	return command
}

func (f *frontEndFlags) check() ([]string, error) {
	if f.nodes == "" {
		return nil, errors.New("--nodes is required")
	}
	nodes := strings.Split(f.nodes, ",")
	for i := range nodes {
		nodes[i] = strings.TrimSpace(nodes[i])
		if err := checkAddress(nodes[i]); err != nil {
			return nil, fmt.Errorf("--nodes: %w", err)
		}
	}
	if !dems.ValidName(f.id) {
		return nil, fmt.Errorf("--id %q: use 1 to 32 of a-z, 0-9 and hyphen, beginning with a letter", f.id)
	}
	if f.reply != string(frontend.ReplyMajority) && f.reply != string(frontend.ReplyFirst) {
		return nil, fmt.Errorf("--reply %q: use majority or first", f.reply)
	}
	if f.deadline <= 0 {
		return nil, errors.New("--deadline: use a positive duration, for example 10s")
	}
	if f.batchesInFlight < 1 || f.batchesInFlight > dems.MaxBatchesInFlight {
		return nil, fmt.Errorf("--batches-in-flight: use 1 to %d", dems.MaxBatchesInFlight)
	}
	return nodes, checkLoopback(f.listen, f.insecure)
}

// checkLoopback refuses to listen where others can reach an unauthenticated front end.
func checkLoopback(listen string, insecure bool) error {
	host, _, err := net.SplitHostPort(listen)
	if err != nil {
		return fmt.Errorf("--listen %q: write HOST:PORT", listen)
	}
	ip := net.ParseIP(host)
	if insecure || host == "localhost" || ip != nil && ip.IsLoopback() {
		return nil
	}
	return fmt.Errorf("--listen %s can be reached from other machines, and authentication is off: "+
		"anybody could act as anybody. Listen on 127.0.0.1 or, if that is what you want, run demsd frontend with --insecure", listen)
}

func runFrontEnd(ctx context.Context, flags frontEndFlags, logger *slog.Logger) (err error) {
	nodes, err := flags.check()
	if err != nil {
		return usageError{err}
	}
	logger = logger.With("frontend", flags.id)
	credentials, err := transport.LoadCredentials(flags.pkiDir, transport.RoleFrontEnd, flags.id)
	if err != nil {
		return err
	}
	listener, err := net.Listen("tcp", flags.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", flags.listen, err)
	}
	defer func() { _ = listener.Close() }() // the server closes it, too
	socket, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return fmt.Errorf("open a UDP socket: %w", err)
	}
	endpoint, err := transport.Listen(transport.Config{Credentials: credentials, PacketConn: socket, Logger: logger})
	if err != nil {
		return errors.Join(err, socket.Close())
	}
	defer func() { err = errors.Join(err, endpoint.Close()) }()
	if flags.url == "" {
		flags.url = "http://" + listener.Addr().String()
	}
	if flags.pidDir != "" {
		if err := os.MkdirAll(flags.pidDir, 0o755); err != nil {
			return fmt.Errorf("--pid-dir: %w", err)
		}
		removePID, err := writePID(flags.pidDir)
		if err != nil {
			return err
		}
		defer removePID()
	}
	return serveFrontEnd(ctx, flags, nodes, endpoint, listener, logger)
}

func serveFrontEnd(ctx context.Context, flags frontEndFlags, nodes []string, endpoint *transport.Endpoint,
	listener net.Listener, logger *slog.Logger) error {
	registry := newRegistry()
	core, err := frontend.NewCore(frontend.Config{
		ID: flags.id, Address: flags.url, Version: programVersion(), Nodes: nodes,
		Dial:            func(address string) frontend.Replica { return endpoint.Replica(address) },
		Reply:           frontend.ReplyMode(flags.reply),
		BatchesInFlight: flags.batchesInFlight,
		Logger:          logger, Registerer: registry,
	})
	if err != nil {
		return usageError{err}
	}
	rest := frontend.RESTConfig{Logger: logger, Registry: registry, Deadline: flags.deadline, EnableFaults: flags.enableFaults}
	if err := rest.Validate(); err != nil {
		return usageError{err}
	}
	server := frontend.NewServer(frontend.NewHandler(core, rest), rest)
	logger.Info("front end", "url", flags.url, "nodes", flags.nodes, "reply", flags.reply)
	// Clients first: the core runs until the last request in progress has its answer.
	coreCtx, stopCore := context.WithCancel(context.WithoutCancel(ctx))
	defer stopCore()
	group, groupCtx := errgroup.WithContext(coreCtx)
	group.Go(func() error { return core.Run(groupCtx) })
	group.Go(func() error {
		defer stopCore()
		serving, stop := context.WithCancel(groupCtx)
		defer stop()
		defer context.AfterFunc(ctx, stop)()
		return serveUntil(serving, server, netutil.LimitListener(listener, maxConnections), flags.deadline+time.Second)
	})
	return group.Wait()
}

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dems"
	"dems/transport"
)

const (
	// healthTimeout is how long one look at a server may take.
	healthTimeout = 2 * time.Second
	// healthInterval is the pause between two looks while it is waited for.
	healthInterval = 100 * time.Millisecond
	// maxHealthReport is how much of what a front end says of itself is read, in bytes.
	maxHealthReport = 4 << 10
)

type healthFlags struct {
	id, listen, pkiDir string
	wait               time.Duration
}

func newHealthCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "health",
		Short: "Tell whether the node or front end on this machine is well",
		Long: `health asks the server that runs on this machine, and ends with status 0 if it is well. It takes the flags of
that server, or its environment, and serves as the health check of a container that has no shell.`,
		Example: `  demsd health node --id n1 --listen 127.0.0.1:7001
  demsd health frontend --listen 127.0.0.1:8080 --wait 1m`,
		Args: unknownCommand,
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.AddCommand(newNodeHealthCommand(), newFrontEndHealthCommand())
	return command
}

func newNodeHealthCommand() *cobra.Command {
	var flags healthFlags
	command := &cobra.Command{
		Use:   "node",
		Short: "Tell whether a node answers and has caught up",
		Long: `node asks the node over its own port, with its own certificate. It is well when it answers and has caught up with
what it knew before it started. Whether the others agree with it is not asked: see demsctl cluster status.`,
		Example: `  demsd health node --id n1 --listen 127.0.0.1:7001
  demsd health node --id n1 --listen :7000 --pki-dir /pki --wait 1m`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if !dems.ValidName(flags.id) {
				return usageError{fmt.Errorf("--id %q: give the node's ID, for example n1", flags.id)}
			}
			return flags.report(command, func(ctx context.Context, address string) (string, error) {
				return askNode(ctx, flags.pkiDir, dems.NodeID(flags.id), address)
			})
		},
	}
	set := command.Flags()
	set.StringVar(&flags.id, "id", "", "the node's ID (required)")
	set.StringVar(&flags.listen, "listen", "", "HOST:PORT that the node listens on (required)")
	set.StringVar(&flags.pkiDir, "pki-dir", defaultPKIDir, "the folder with the node's certificate")
	set.DurationVar(&flags.wait, "wait", 0, "how long to go on asking until it is well")
	return command
}

func newFrontEndHealthCommand() *cobra.Command {
	var flags healthFlags
	command := &cobra.Command{
		Use:   "frontend",
		Short: "Tell whether a front end is ready",
		Long:  `frontend asks the front end for /readyz. It is well when a majority of the nodes answers it.`,
		Example: `  demsd health frontend --listen 127.0.0.1:8080
  demsd health frontend --listen :8080 --wait 1m`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error { return flags.report(command, askFrontEnd) },
	}
	set := command.Flags()
	set.StringVar(&flags.listen, "listen", "127.0.0.1:8080", "HOST:PORT that the front end listens on")
	set.DurationVar(&flags.wait, "wait", 0, "how long to go on asking until it is well")
	return command
}

// report asks until the server is well or --wait has passed, at least once, and prints what it said.
func (f *healthFlags) report(command *cobra.Command, ask func(ctx context.Context, address string) (string, error)) error {
	address, err := reachable(f.listen)
	if err != nil {
		return usageError{err}
	}
	if f.wait < 0 {
		return usageError{errors.New("--wait: use a positive duration, for example 1m")}
	}
	deadline := time.NewTimer(f.wait)
	defer deadline.Stop()
	ticker := time.NewTicker(healthInterval)
	defer ticker.Stop()
	for {
		ctx, cancel := context.WithTimeout(command.Context(), healthTimeout)
		said, err := ask(ctx, address)
		cancel()
		if err == nil {
			_, err = fmt.Fprintln(command.OutOrStdout(), said)
			return err
		}
		if f.wait == 0 {
			return err
		}
		select {
		case <-ticker.C:
		case <-deadline.C:
			return fmt.Errorf("not well within %v: %w", f.wait, err)
		case <-command.Context().Done():
			return err
		}
	}
}

// reachable turns the address that a server listens on into one that it is reached by from this machine.
func reachable(listen string) (string, error) {
	if err := checkAddress(listen); err == nil {
		host, port, err := net.SplitHostPort(listen)
		if ip := net.ParseIP(host); err != nil || ip == nil || !ip.IsUnspecified() {
			return listen, err
		} else if ip.To4() == nil {
			return net.JoinHostPort("::1", port), nil
		}
		return net.JoinHostPort("127.0.0.1", port), nil
	}
	if port, ok := strings.CutPrefix(listen, ":"); ok && checkAddress("127.0.0.1:"+port) == nil {
		return "127.0.0.1:" + port, nil
	}
	return "", fmt.Errorf("--listen %q: write HOST:PORT, as the server has it", listen)
}

// askNode returns what a node says of itself, or why it is not well.
func askNode(ctx context.Context, pkiDir string, id dems.NodeID, address string) (said string, err error) {
	credentials, err := transport.LoadCredentials(pkiDir, transport.RoleNode, string(id))
	if err != nil {
		return "", err
	}
	socket, err := net.ListenPacket("udp", ":0")
	if err != nil {
		return "", fmt.Errorf("open a UDP socket: %w", err)
	}
	endpoint, err := transport.Listen(transport.Config{
		Credentials: credentials, PacketConn: socket,
		Resolve: func(dems.NodeID) (string, bool) { return address, true },
	})
	if err != nil {
		return "", err
	}
	defer func() { err = errors.Join(err, endpoint.Close()) }()
	node := endpoint.Peer(id)
	defer func() { err = errors.Join(err, node.Close()) }()
	status, err := node.Status(ctx)
	if err != nil {
		return "", fmt.Errorf("%s does not answer: %w", id, err)
	}
	if !status.Ready {
		return "", fmt.Errorf("%s has not caught up yet: it has applied log entry %d", id, status.Applied)
	}
	return fmt.Sprintf("%s is well: incarnation %d, applied %d", id, status.Incarnation, status.Applied), nil
}

// askFrontEnd returns that a front end is ready, or why it is not.
func askFrontEnd(ctx context.Context, address string) (string, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+address+"/readyz", nil)
	if err != nil {
		return "", err
	}
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}} // no proxy of the environment
	response, err := client.Do(request)
	if err != nil {
		return "", fmt.Errorf("the front end does not answer: %w", err)
	}
	defer response.Body.Close()
	body, err := io.ReadAll(io.LimitReader(response.Body, maxHealthReport))
	if err != nil {
		return "", fmt.Errorf("the front end does not answer: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return "", fmt.Errorf("the front end is not ready: %s", strings.Join(strings.Split(strings.TrimSpace(string(body)), "\n"), "; "))
	}
	return "the front end is ready", nil
}

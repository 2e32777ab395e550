package main

import (
	"errors"
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dems"
)

func (p *program) faultCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "fault NODE KIND",
		Short: "Make a node, or its network, misbehave, for a drill",
		Long: `Make a node, or its network, misbehave, where front ends and nodes were started with --enable-faults, as demsd dev does.
KIND is one of

  wrong-results  its answers are wrong, its state is right
  wrong-state    its state is silently altered, once
  slow           everything it answers is late by --delay
  mute           it answers nothing
  partition      what is sent between it and --peers is lost, as if the cable were cut; it heals by itself after --lasts
  latency        what is sent between it and --peers is late by --delay, and at random by up to --jitter more

A fault ends with "demsctl fault clear", after --requests or --lasts, with the node's process, and when the node is replaced. An
altered state stays altered until the node is replaced. A node that is cut off from the front ends cannot be told to clear its
faults: a partition always needs --lasts. A fault of the network begins 50 ms after it was injected.`,
		Example: `  demsctl fault n2 wrong-results --requests 3
  demsctl fault n2 slow --delay 200ms
  demsctl fault n2 partition --peers n1,n3 --direction incoming --lasts 5s
  demsctl fault n2 latency --delay 50ms --jitter 20ms --peers frontends
  demsctl fault clear`,
		Args: cobra.ExactArgs(2),

		ValidArgsFunction: completeFault,
	}
	var fault dems.Fault
	var direction string
	set := command.Flags()
	set.IntVar(&fault.Requests, "requests", 0, "how many requests it spoils before it is right again; 0: no limit")
	set.DurationVar(&fault.Delay, "delay", 0, "how late a slow node or network is, in whole milliseconds, as in 200ms")
	set.DurationVar(&fault.Jitter, "jitter", 0, "up to how much later still a slow network is, at random")
	set.StringSliceVar(&fault.Peers, "peers", nil, "who is cut off from the node, or far from it: nodes, and "+dems.FrontEnds+" for the rest; default: everybody")
	set.StringVar(&direction, "direction", dems.BothWays.String(), "what is lost or late, as the node sees it: incoming, outgoing or both")
	set.DurationVar(&fault.Lasts, "lasts", 0, fmt.Sprintf("after how long a fault of the network ends by itself, up to %v", dems.MaxFaultLasts))
	command.RunE = func(command *cobra.Command, arguments []string) error {
		if err := checkFault(&fault, arguments[1], direction); err != nil {
			return err
		}
		api, err := p.connect()
		if err != nil {
			return err
		}
		injected, err := api.InjectFault(command.Context(), dems.NodeID(arguments[0]), fault)
		if err != nil {
			return err
		}
		return p.emit(injected.Body, func(page *page) {
			page.line("Injected: %s %s", printable(string(injected.Node)), printable(injected.Kind))
		})
	}
	command.AddCommand(p.faultClearCommand())
	return command
}

// checkFault completes a fault with what has to be parsed, and refuses what is missing or too much in terms of the flags.
func checkFault(fault *dems.Fault, kind, direction string) error {
	var ok bool
	if fault.Kind, ok = dems.ParseFaultKind(kind); !ok {
		return fmt.Errorf("%q is no kind of fault: write %s", kind, strings.Join(faultKinds(), ", "))
	}
	if fault.Direction, ok = dems.ParseDirection(direction); !ok {
		return fmt.Errorf("%q is no direction: write %s", direction, strings.Join(directions(), ", "))
	}
	late := fault.Kind == dems.Slow || fault.Kind == dems.Latency
	switch {
	case late && (fault.Delay < time.Millisecond || fault.Delay > dems.MaxFaultDelay):
		return fmt.Errorf("how late is %s? Say so with --delay, as in --delay 200ms, up to %v", fault.Kind, dems.MaxFaultDelay)
	case !late && fault.Delay != 0:
		return errors.New("--delay is for slow nodes and latency only")
	case fault.Kind == dems.Partition && (fault.Lasts < time.Millisecond || fault.Lasts > dems.MaxFaultLasts):
		return fmt.Errorf("how long does the partition last? Say so with --lasts, as in --lasts 5s, up to %v", dems.MaxFaultLasts)
	case !fault.Kind.OfNetwork() && (fault.Lasts != 0 || fault.Jitter != 0 || fault.Direction != dems.BothWays || len(fault.Peers) > 0):
		return errors.New("--peers, --direction, --jitter and --lasts are for partition and latency only")
	}
	return nil
}

func (p *program) faultClearCommand() *cobra.Command {
	return &cobra.Command{
		Use:     "clear",
		Short:   "End all faults on all nodes that can be reached",
		Example: `  demsctl fault clear`,
		Args:    cobra.NoArgs,
		RunE: func(command *cobra.Command, _ []string) error {
			api, err := p.connect()
			if err != nil {
				return err
			}
			ended, err := api.EndFaults(command.Context())
			if err != nil {
				return err
			}
			return p.emit(ended.Body, func(page *page) { page.line("Ended: all faults") })
		},
	}
}

// completeFault completes the argument KIND.
func completeFault(_ *cobra.Command, arguments []string, _ string) ([]string, cobra.ShellCompDirective) {
	if len(arguments) == 1 {
		return faultKinds(), cobra.ShellCompDirectiveNoFileComp
	}
	return nil, cobra.ShellCompDirectiveNoFileComp
}

func faultKinds() []string {
	var names []string
	for _, kind := range dems.FaultKinds() {
		names = append(names, kind.String())
	}
	return names
}

func directions() []string {
	return []string{dems.Incoming.String(), dems.Outgoing.String(), dems.BothWays.String()}
}

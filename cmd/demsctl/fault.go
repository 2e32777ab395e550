package main

import (
	"fmt"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"dems"
)

func (p *program) faultCommand() *cobra.Command {
	command := &cobra.Command{
		Use:   "fault NODE KIND",
		Short: "Make a node misbehave, for a drill",
		Long: `Make a node misbehave, where front ends and nodes were started with --enable-faults, as demsd dev does. KIND is one of

  wrong-results  its answers are wrong, its state is right
  wrong-state    its state is silently altered, once
  slow           everything it answers is late by --delay
  mute           it answers nothing

A fault ends with "demsctl fault clear", after --requests, with the node's process, and when the node is replaced. An altered
state stays altered until the node is replaced.`,
		Example: `  demsctl fault n2 wrong-results --requests 3
  demsctl fault n2 slow --delay 200ms
  demsctl fault clear`,
		Args: cobra.ExactArgs(2),

		ValidArgsFunction: completeFault,
	}
	requests := command.Flags().Int("requests", 0, "how many requests it spoils before it is right again; 0: no limit")
	delay := command.Flags().Duration("delay", 0, "how late a slow node answers, in whole milliseconds, as in 200ms")
	command.RunE = func(command *cobra.Command, arguments []string) error {
		fault := dems.Fault{Requests: *requests, Delay: *delay}
		var ok bool
		if fault.Kind, ok = dems.ParseFaultKind(arguments[1]); !ok {
			return fmt.Errorf("%q is no kind of fault: write %s", arguments[1], strings.Join(faultKinds(), ", "))
		}
		switch {
		case fault.Kind == dems.Slow && (fault.Delay < time.Millisecond || fault.Delay > dems.MaxFaultDelay):
			return fmt.Errorf("how late is slow? Say so with --delay, as in --delay 200ms, up to %v", dems.MaxFaultDelay)
		case fault.Kind != dems.Slow && fault.Delay != 0:
			return fmt.Errorf("--delay is for slow nodes only")
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
	kinds := []dems.FaultKind{dems.WrongResults, dems.WrongState, dems.Slow, dems.Mute}
	names := make([]string, len(kinds))
	for i, kind := range kinds {
		names[i] = kind.String()
	}
	return names
}

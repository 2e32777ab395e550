package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"dems/transport"
)

func newPKICommand() *cobra.Command {
	var dir string
	command := &cobra.Command{
		Use:   "pki",
		Short: "Make the certificates of a cluster",
		Long: `pki makes a cluster's own certificate authority and the certificates that its nodes and front ends prove
themselves with. Only who has one gets to speak to a node. Keep ca.key off the machines of the cluster: a node needs
ca.crt and its own two files, nothing else.`,
		Example: `  demsd pki init --dir dems-pki
  demsd pki issue --dir dems-pki --role node --id n1
  demsd pki issue --dir dems-pki --role frontend --id fe1`,
		Args: unknownCommand,
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	command.PersistentFlags().StringVar(&dir, "dir", defaultPKIDir, "the folder with the certificates")
	initialise := &cobra.Command{
		Use:     "init",
		Short:   "Make a certificate authority",
		Example: "  demsd pki init --dir dems-pki",
		Args:    noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if err := transport.CreateAuthority(dir); err != nil {
				return err
			}
			_, err := fmt.Fprintf(command.OutOrStdout(), "made a certificate authority in %s\n", dir)
			return err
		},
	}
	var role, id string
	issue := &cobra.Command{
		Use:     "issue",
		Short:   "Make a certificate for a node or a front end",
		Example: "  demsd pki issue --dir dems-pki --role node --id n1",
		Args:    noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			if id == "" {
				return usageError{fmt.Errorf("--id is required")}
			}
			if role != string(transport.RoleNode) && role != string(transport.RoleFrontEnd) {
				return usageError{fmt.Errorf("--role %q: use node or frontend", role)}
			}
			if err := transport.Issue(dir, transport.Role(role), id); err != nil {
				return err
			}
			_, err := fmt.Fprintf(command.OutOrStdout(), "made a certificate for %s %s in %s\n", role, id, dir)
			return err
		},
	}
	issue.Flags().StringVar(&role, "role", "node", "node or frontend")
	issue.Flags().StringVar(&id, "id", "", "the ID of the node or front end (required)")
	command.AddCommand(initialise, issue)
	return command
}

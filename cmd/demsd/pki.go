package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"github.com/spf13/cobra"

	"dems"
	"dems/transport"
)

const authorityCertificate, authorityKey = "ca.crt", "ca.key"

// certificateStore is where a cluster's certificates are made.
type certificateStore struct {
	authorityDir string // has the authority; may be dir
	dir          string // gets what servers need
}

// identity is whom a certificate is for.
type identity struct {
	role transport.Role
	id   string
}

func newPKICommand() *cobra.Command {
	var flags certificateStore
	command := &cobra.Command{
		Use:   "pki",
		Short: "Make the certificates of a cluster",
		Long: `pki makes a cluster's own certificate authority and the certificates that its nodes and front ends prove
themselves with. Only who has one gets to speak to a node. Keep ca.key off the machines of the cluster: a node needs
ca.crt and its own two files, nothing else.`,
		Example: `  demsd pki init --dir dems-pki
  demsd pki issue --dir dems-pki --role node --id n1
  demsd pki issue --dir dems-pki --role frontend --id fe1
  demsd pki all --dir dems-pki --nodes n1,n2,n3 --frontends fe1`,
		Args: unknownCommand,
		RunE: func(command *cobra.Command, _ []string) error { return command.Help() },
	}
	set := command.PersistentFlags()
	set.StringVar(&flags.dir, "dir", defaultPKIDir, "the folder with the certificates")
	set.StringVar(&flags.authorityDir, "authority-dir", "", "the folder with the authority and its key (default: that of --dir)")
	command.AddCommand(newPKIInitCommand(&flags), newPKIIssueCommand(&flags), newPKIAllCommand(&flags))
	return command
}

func newPKIInitCommand(flags *certificateStore) *cobra.Command {
	return &cobra.Command{
		Use:     "init",
		Short:   "Make a certificate authority",
		Example: "  demsd pki init --dir dems-pki",
		Args:    noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			store := flags.withDefault()
			if err := transport.CreateAuthority(store.authorityDir); err != nil {
				return err
			}
			_, err := fmt.Fprintf(command.OutOrStdout(), "made a certificate authority in %s\n", store.authorityDir)
			return err
		},
	}
}

func newPKIIssueCommand(flags *certificateStore) *cobra.Command {
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
			store := flags.withDefault()
			if err := store.issue(identity{transport.Role(role), id}); err != nil {
				return err
			}
			_, err := fmt.Fprintf(command.OutOrStdout(), "made a certificate for %s %s in %s\n", role, id, store.dir)
			return err
		},
	}
	issue.Flags().StringVar(&role, "role", "node", "node or frontend")
	issue.Flags().StringVar(&id, "id", "", "the ID of the node or front end (required)")
	return issue
}

func newPKIAllCommand(flags *certificateStore) *cobra.Command {
	var nodes, frontEnds []string
	all := &cobra.Command{
		Use:   "all",
		Short: "Make whatever is missing of an authority and certificates",
		Long: `all makes whatever is missing of a cluster's authority and of the certificates for the servers that are named. What is
there is checked and kept, so it may be run again at any time: after it was interrupted, for one more server, or for nothing.`,
		Example: `  demsd pki all --dir dems-pki --nodes n1,n2,n3 --frontends fe1
  demsd pki all --authority-dir /secure/authority --dir dems-pki --nodes n1,n2,n3 --frontends fe1,fe2`,
		Args: noArguments,
		RunE: func(command *cobra.Command, _ []string) error {
			wanted, err := identities(nodes, frontEnds)
			if err != nil {
				return usageError{err}
			}
			store := flags.withDefault()
			made, err := store.complete(wanted)
			for _, who := range made {
				if _, err := fmt.Fprintf(command.OutOrStdout(), "made a certificate for %s %s in %s\n", who.role, who.id, store.dir); err != nil {
					return err
				}
			}
			if err == nil && len(made) == 0 {
				_, err = fmt.Fprintf(command.OutOrStdout(), "every certificate is there in %s\n", store.dir)
			}
			return err
		},
	}
	all.Flags().StringSliceVar(&nodes, "nodes", nil, "the IDs of the nodes, as n1,n2,…")
	all.Flags().StringSliceVar(&frontEnds, "frontends", nil, "the IDs of the front ends, as fe1,fe2,…")
	return all
}

// identities are the servers of a cluster, each named once: complete may remove files that it takes for its own.
func identities(nodes, frontEnds []string) ([]identity, error) {
	var all []identity
	taken := map[string]bool{"ca": true} // the authority's files have that name
	for i, id := range slices.Concat(nodes, frontEnds) {
		if !dems.ValidName(id) {
			return nil, fmt.Errorf("ID %q: use 1 to 32 of a-z, 0-9 and hyphen, beginning with a letter", id)
		}
		if taken[id] {
			return nil, fmt.Errorf("ID %q is taken; every server needs another one", id)
		}
		taken[id] = true
		role := transport.RoleNode
		if i >= len(nodes) {
			role = transport.RoleFrontEnd
		}
		all = append(all, identity{role, id})
	}
	if len(all) == 0 {
		return nil, errors.New("--nodes or --frontends is required")
	}
	return all, nil
}

func (s *certificateStore) withDefault() certificateStore {
	if s.authorityDir == "" {
		return certificateStore{authorityDir: s.dir, dir: s.dir}
	}
	return *s
}

// issue makes one certificate, and puts the authority's next to it.
func (s certificateStore) issue(who identity) error {
	if err := s.publishAuthority(); err != nil {
		return err
	}
	return transport.IssueFrom(s.authorityDir, s.dir, who.role, who.id)
}

// complete makes what is missing for servers with different IDs, and checks what is there. It returns what it made.
func (s certificateStore) complete(wanted []identity) (made []identity, err error) {
	var missing []identity
	for _, who := range wanted {
		present, err := exists(s.file(who.id + ".crt"))
		if err != nil {
			return nil, err
		}
		if !present {
			missing = append(missing, who)
		} else if _, err := transport.LoadCredentials(s.dir, who.role, who.id); err != nil {
			return nil, err
		}
	}
	if len(missing) == 0 {
		return nil, nil
	}
	if err := s.ensureAuthority(len(missing) < len(wanted)); err != nil {
		return nil, err
	}
	for _, who := range missing {
		// A key without its certificate was left by somebody who was killed here, and nobody can use it.
		if err := os.Remove(s.file(who.id + ".key")); err != nil && !errors.Is(err, os.ErrNotExist) {
			return made, err
		}
		if err := s.issue(who); err != nil {
			return made, err
		}
		made = append(made, who)
	}
	return made, nil
}

// ensureAuthority makes the authority if it is missing. Where it has issued certificates, another one would be of no use.
func (s certificateStore) ensureAuthority(issued bool) error {
	present, err := exists(filepath.Join(s.authorityDir, authorityCertificate))
	if err != nil || present {
		return err
	}
	published, err := exists(s.file(authorityCertificate))
	if err != nil {
		return err
	}
	if issued || published {
		return fmt.Errorf("there are certificates in %s, but their authority is not in %s: put its two files back, or remove all certificates to make new ones",
			s.dir, s.authorityDir)
	}
	if err := os.Remove(filepath.Join(s.authorityDir, authorityKey)); err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	return transport.CreateAuthority(s.authorityDir)
}

// publishAuthority copies the authority's certificate to where servers look for it.
func (s certificateStore) publishAuthority() error {
	if s.authorityDir == s.dir {
		return nil
	}
	certificate, err := os.ReadFile(filepath.Join(s.authorityDir, authorityCertificate))
	if err != nil {
		return fmt.Errorf("the cluster's authority: %w", err)
	}
	there, err := os.ReadFile(s.file(authorityCertificate))
	switch {
	case err == nil && bytes.Equal(there, certificate):
		return nil
	case err == nil:
		return fmt.Errorf("%s is not the authority in %s: use its folder, or another --dir", s.file(authorityCertificate), s.authorityDir)
	case !errors.Is(err, os.ErrNotExist):
		return err
	}
	if err := os.MkdirAll(s.dir, 0o700); err != nil {
		return err
	}
	return writeWhole(s.file(authorityCertificate), certificate)
}

func (s certificateStore) file(name string) string { return filepath.Join(s.dir, name) }

// exists tells whether a file is there; an error says that it cannot be known.
func exists(path string) (bool, error) {
	_, err := os.Stat(path)
	if errors.Is(err, os.ErrNotExist) {
		return false, nil
	}
	return err == nil, err
}

package main

import (
	"errors"
	"fmt"
	"io"
	"path/filepath"
	"time"

	"github.com/spf13/cobra"

	"github.com/weir-dev/weir/internal/store/bucket"
)

func backupCommand() *cobra.Command {
	c := &cobra.Command{
		Use:   "backup",
		Short: "Makes, checks and restores backups of a data directory",
		Long: `Makes, checks and restores backups of a data directory: raw blocks, rollups,
and the head. They lie in a bucket, in the directory weir/ beside blocks
that are there. A file is stored once, however many backups have it.`,
		Args: noVerb,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(backupCreateCommand(), backupListCommand(), backupVerifyCommand(), backupRestoreCommand())
	return c
}

// withBackups opens the place that the flags name for as long as do takes.
func (p *blockPlace) withBackups(do func(b *bucket.Backups) error) (err error) {
	o, err := p.dial()
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, o.Close()) }()
	return do(bucket.NewBackups(o, time.Now))
}

// withBackup is withBackups for the backup that args name, or the newest, and prints
// that it is done.
func (p *blockPlace) withBackup(c *cobra.Command, args []string, done string, do func(b *bucket.Backups, m *bucket.Manifest, t *ticker) error) error {
	return p.withBackups(func(b *bucket.Backups) error {
		m, err := b.Manifest(c.Context(), first(args))
		if err != nil {
			return err
		}
		if err := do(b, m, newTicker(c.ErrOrStderr())); err != nil {
			return err
		}
		_, err = fmt.Fprintf(c.OutOrStdout(), "backup %s %s: %d files, %s\n", m.Name, done, len(m.Files), bytesText(m.Bytes()))
		return err
	})
}

func (t *ticker) files(done, files int, bytes int64) {
	t.say("%d of %d files, %s", done, files, bytesText(bytes))
}

// backupRow is a backup as it is shown.
type backupRow struct {
	Name     string    `json:"name"`
	Created  time.Time `json:"created"`
	Head     string    `json:"head"`
	Files    int       `json:"files"`
	Bytes    int64     `json:"bytes"`
	NewFiles int       `json:"new_files"`
	NewBytes int64     `json:"new_bytes"`
}

func rowOf(m *bucket.Manifest) backupRow {
	return backupRow{m.Name, m.Created, m.Head, len(m.Files), m.Bytes(), m.NewFiles, m.NewBytes}
}

func printBackups(w io.Writer, rows ...backupRow) {
	fmt.Fprintln(w, "BACKUP\tHEAD\tFILES\tSIZE\tNEW FILES\tNEW SIZE")
	for _, r := range rows {
		fmt.Fprintf(w, "%s\t%s\t%d\t%s\t%d\t%s\n", r.Name, r.Head, r.Files, bytesText(r.Bytes), r.NewFiles, bytesText(r.NewBytes))
	}
}

func backupCreateCommand() *cobra.Command {
	var at blockPlace
	var out output
	var url string
	c := &cobra.Command{
		Use:   "create",
		Short: "Backs a data directory up",
		Long: `Backs a data directory up. Of what the last backup has nothing is sent again.

With --url the server runs on: it is asked for a snapshot of its head
(query.admin_api must be true). Without, the server must be stopped; its
write-ahead log is copied.`,
		Example: `  weir backup create --config.file=weir.yaml --bucket.config.file=backups.yaml --url=http://127.0.0.1:9480
  weir backup create --dir=data --bucket.config.file=backups.yaml`,
		Args: cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return at.withBackups(func(b *bucket.Backups) (err error) {
				var src *bucket.Source
				if url != "" {
					src, err = bucket.Running(c.Context(), at.cfg.Store.Dir, url)
				} else {
					src, err = bucket.Stopped(at.cfg.Store.Dir)
				}
				if err != nil {
					return err
				}
				defer func() { err = errors.Join(err, src.Close()) }()
				m, err := b.Create(c.Context(), src, version(), newTicker(c.ErrOrStderr()).files)
				if err != nil {
					return err
				}
				return out.write(c.OutOrStdout(), rowOf(m), func(w io.Writer) { printBackups(w, rowOf(m)) })
			})
		},
	}
	at.flags(c)
	out.flag(c)
	c.Flags().StringVar(&url, "url", "", "`address` of the running server, as http://127.0.0.1:9480")
	return c
}

func backupListCommand() *cobra.Command {
	var at blockPlace
	var out output
	c := &cobra.Command{
		Use:   "list",
		Short: "Lists backups, oldest first",
		Args:  cobra.NoArgs,
		RunE: func(c *cobra.Command, _ []string) error {
			return at.withBackups(func(b *bucket.Backups) error {
				names, err := b.List(c.Context())
				if err != nil {
					return err
				}
				rows := []backupRow{}
				for _, name := range names {
					m, err := b.Manifest(c.Context(), name)
					if err != nil {
						return err
					}
					rows = append(rows, rowOf(m))
				}
				return out.write(c.OutOrStdout(), rows, func(w io.Writer) { printBackups(w, rows...) })
			})
		},
	}
	at.flags(c)
	out.flag(c)
	return c
}

func backupVerifyCommand() *cobra.Command {
	var at blockPlace
	c := &cobra.Command{
		Use:   "verify [BACKUP]",
		Short: "Reads a backup and compares every file's hash",
		Long: `Reads a backup, the newest without an argument, and compares every file's
SHA-256. All files that are missing or damaged are named.`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return at.withBackup(c, args, "is good", func(b *bucket.Backups, m *bucket.Manifest, t *ticker) error {
				return b.Verify(c.Context(), m, t.files)
			})
		},
	}
	at.flags(c)
	return c
}

func backupRestoreCommand() *cobra.Command {
	var at blockPlace
	c := &cobra.Command{
		Use:   "restore [BACKUP]",
		Short: "Writes a backup to an empty data directory",
		Long: `Writes a backup, the newest without an argument, to a data directory that is
empty or not there yet. Each file's hash is checked. What was cut off is
gone on with by the same command.`,
		Example: `  weir backup restore --bucket.config.file=backups.yaml --dir=data`,
		Args:    cobra.MaximumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			dir := filepath.Clean(at.cfg.Store.Dir)
			return at.withBackup(c, args, "restored to "+dir, func(b *bucket.Backups, m *bucket.Manifest, t *ticker) error {
				return b.Restore(c.Context(), m, dir, t.files)
			})
		},
	}
	at.flags(c)
	return c
}

// first returns the first argument, or "".
func first(args []string) string {
	if len(args) == 0 {
		return ""
	}
	return args[0]
}

/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Page tables that are unhooked without their lock: can a speculative fault set
 * an entry in a page table that mremap() has moved, or that khugepaged has taken
 * away to collapse it?
 *
 * Two addresses, OLD and NEW, each with a pmd entry that one VMA at most covers,
 * unless BESIDE is asked for.
 * Processes: the speculative faults, one writer that runs SECTIONS write sections
 * chosen freely, and a neighbour, who holds the VMA lock of one of the addresses,
 * makes a page table where there is none, and sets an entry, splits a huge page
 * or, if asked to, reclaims the page table.
 *
 * What is abstracted, beside what spf.pml abstracts in the same way (sequential
 * consistency, one writer process, trylocks, grace periods):
 *
 *  - What begin makes of the VMA, and how long the object lives, is the subject of
 *    spf.pml. Here an object is never used twice, and there is nothing to copy.
 *  - A page table has one entry. Pages are ONCE, which is write-protected and to be
 *    copied, and FRESH, which is not. The others fill it with FRESH only.
 *  - A copying fault validates once, before it sets the entry. The first time only
 *    makes it give up earlier, and so does the reference that it takes then for
 *    __collapse_huge_page_isolate().
 *  - The drain is one step: whoever can have the lock finds that nobody else has
 *    it. Nothing is done between lock and unlock.
 *  - vma_start_write() excludes readers and stores the sequence in one step. A
 *    speculative fault sees of the former nothing but the latter.
 *  - Entries of huge pages are skipped by the walk. A fault on them validates under
 *    the pmd lock, which all who change them take.
 *  - A TLB is the set of the pages that some CPU may still translate the address to:
 *    all that were visible there since the last flush. Hardware walks in one step,
 *    as a flush also ends the walks that are under way.
 *
 * Configuration, by -D:
 *  SECTIONS=n SPECULATORS=n TABLES=n   (defaults 1, 2, 2)
 *  EMPTY_FIRST  the entry starts empty          TABLE=0  so does the pmd
 *  OP_MOVE OP_COLLAPSE OP_MUNMAP OP_MMAP        what sections may do
 *  NEIGHBOUR    there is one                    RECLAIM  he reclaims page tables, too
 *  HASH         update_mmu_cache_range() puts the entry where hardware finds it
 *               without the pmd: powerpc's hash MMU
 *  ONE_LOCK     no split page table locks, hence no drain either; not with RECLAIM
 *  BESIDE       a VMA beside ours shares each pmd entry: its faults populate it, and
 *               mremap() moves entries, not page tables. That is move_ptes(), and
 *               not for ONE_LOCK, RECLAIM and OP_COLLAPSE
 *  JUDGE=x      judge this alone, beside the life of page tables and double maps:
 *	PLACE	an entry is set where the address of the fault finds it
 *	GONE	no entry of a VMA comes after it was moved or unmapped
 *	MOVED	nothing appears at the new place that was not moved there
 *	STALE	no TLB translates to a page that the mm has given up
 *	LOST	no write gets lost, for the page was copied and dropped
 *  COMMITS      fail at the first commit: shows that one is reached
 * Mutants:
 *  MUT_NO_DRAIN         no drain
 *  MUT_EARLY_DRAIN      the drain comes before vma_start_write()
 *  MUT_LATE_DRAIN       the drain comes after the page table was moved
 *  MUT_NO_PMD_RECHECK   the pmd is not looked at again under the page table lock
 *  MUT_NO_SEQ_CHECK     the sequence is not
 *  MUT_CHECK_BEFORE_LOCK  both are, but before the lock is taken
 *  MUT_NO_PTE_SAME      the entry is not
 *  MUT_NO_MM_LOCK_SEQ   begin takes a VMA that is write-locked
 *  MUT_AT_ONCE          page tables are freed without a grace period
 *  MUT_DEPOSIT_AT_ONCE  those that were deposited are
 *  MUT_KEEP_LOCK MUT_KEEP_PAGE MUT_KEEP_RCU     an abort forgets to give it back
 */

#ifndef SECTIONS
#define SECTIONS	1
#endif
#ifndef SPECULATORS
#define SPECULATORS	2
#endif
#ifndef TABLES
#define TABLES		2
#endif
#ifndef TABLE
#define TABLE		1
#endif
#define VMAS		(1 + SECTIONS)
#if defined(ONE_LOCK) && defined(RECLAIM) || \
    defined(BESIDE) && (defined(ONE_LOCK) || defined(RECLAIM) || defined(OP_COLLAPSE))
#error "these do not go together, see above"
#endif

#define OLD		0
#define NEW		1

#define NONE		255	/* no VMA, no table, no sequence */
#define HUGE		254	/* a pmd that maps a huge page */

/* Life of a page table. DYING: waits for a grace period. */
#define FREE		0
#define LIVE		1
#define DYING		2

/* What an entry holds. A TLB holds a set of these. */
#define EMPTY		0
#define ONCE		1
#define FRESH		2

/* What is judged. */
#define ALL		0
#define PLACE		1
#define GONE		2
#define MOVED		3
#define STALE		4
#define LOST		5
#ifndef JUDGE
#define JUDGE		ALL
#endif

#if JUDGE == ALL || JUDGE == PLACE
#define judge_place(what)	assert(what)
#else
#define judge_place(what)	skip
#endif
#if JUDGE == ALL || JUDGE == GONE
#define judge_gone(what)	assert(what)
#else
#define judge_gone(what)	skip
#endif
#if JUDGE == ALL || JUDGE == MOVED
#define judge_moved(what)	assert(what)
#else
#define judge_moved(what)	skip
#endif
#if JUDGE == ALL || JUDGE == STALE
#define judge_stale(what)	assert(what)
#else
#define judge_stale(what)	skip
#endif
#if JUDGE == ALL || JUDGE == LOST
#define judge_lost(what)	assert(what)
#else
#define judge_lost(what)	skip
#endif

/* struct mm_struct. The sequence is odd while mmap_lock is write-held. */
byte mm_lock_seq = 2;
byte tree[2] = NONE;

/* struct vm_area_struct */
byte vm_lock_seq[VMAS];
bool vm_attached[VMAS];
bool vm_read[VMAS];	/* the neighbour holds the VMA lock */
byte next_vma;

/* Page tables. */
byte pmd[2] = NONE;
byte pmd_lock[2];	/* 0 or who holds it */
byte deposited[2] = NONE;
byte pt_state[TABLES];
byte pt_lock[TABLES];
byte pte[TABLES];
byte tlb[2];

/* Without split page table locks mm->page_table_lock is all of them. */
#ifdef ONE_LOCK
#define ptl(t)		0
#define pmd_ptl(a)	pt_lock[0]
#define if_not_the_same(step)	skip
#else
#define ptl(t)		t
#define pmd_ptl(a)	pmd_lock[a]
#define if_not_the_same(step)	step
#endif

/* Who was in an RCU section when the table was handed to call_rcu(). */
byte rcu_readers;	/* one bit a speculator */
byte pt_wait[TABLES];

/* What the properties are said with; no process decides anything by these. */
byte passed[VMAS];	/* faults of earlier sequences may set no entry: it was moved, unmapped */
byte copying = NONE;	/* the address whose pages khugepaged copies */

#define WRITER		100
#define NEIGHBOUR_ID	101

/* rcu_read_lock(), rcu_read_unlock(): the latter ends the grace periods that wait for us alone. */
inline rcu_lock(me)
{
	rcu_readers = rcu_readers | (1 << me)
}

inline rcu_unlock(me)
{
	d_step {
		rcu_readers = rcu_readers & ~(1 << me);
		for (i : 0 .. TABLES - 1) {
			pt_wait[i] = pt_wait[i] & ~(1 << me);
			if
			:: pt_state[i] == DYING && pt_wait[i] == 0 -> pt_state[i] = FREE
			:: else
			fi
		}
		i = 0
	}
}

/* tlb_remove_table(), pte_free_defer() */
inline free_table(dead)
{
	d_step {
		assert(pt_state[dead] == LIVE);
		assert(pte[dead] == EMPTY);	/* a page would leak */
		pt_wait[dead] = rcu_readers;
		if
#ifndef MUT_AT_ONCE
		:: rcu_readers != 0 -> pt_state[dead] = DYING
#endif
		:: else -> pt_state[dead] = FREE
		fi
	}
}

/* Another entry may be visible at the address from now on. */
inline see(addr)
{
	if
	:: pmd[addr] < TABLES -> tlb[addr] = tlb[addr] | pte[pmd[addr]]
	:: else
	fi
}

inline set_pte(table, entry)
{
	pte[table] = entry;
	see(OLD);
	see(NEW)
}

inline set_pmd(where, value)
{
	pmd[where] = value;
	see(where)
}

inline flush_tlb(flushed)
{
	d_step { tlb[flushed] = 0; see(flushed) }
}

/* The last reference to ONCE that this mm has is dropped: it may become anybody's page. */
inline drop_once()
{
	judge_stale(!((tlb[OLD] | tlb[NEW]) & ONCE))
}

#define lock_pmd(a, me)		atomic { pmd_ptl(a) == 0 -> pmd_ptl(a) = me }
#define unlock_pmd(a)		pmd_ptl(a) = 0
#define lock_table(t, me)	atomic { pt_lock[ptl(t)] == 0 -> pt_lock[ptl(t)] = me }

/* pte_alloc(): pmd_install() looks under the pmd lock whether another was first. */
inline pte_alloc(hole, who)
{
	if
	:: pmd[hole] != NONE
	:: else ->
		lock_pmd(hole, who);
		atomic {
			if
			:: pmd[hole] == NONE ->
				t = 0;
				do
				:: t < TABLES && pt_state[t] != FREE -> t++
				:: else -> break
				od;
				if
				:: t < TABLES ->
					pt_state[t] = LIVE;
					set_pmd(hole, t)
				:: else		/* out of memory */
				fi;
				t = NONE
			:: else
			fi
		}
		unlock_pmd(hole)
	fi
}

/* pte_offset_map_lock(): t is NONE where there is no table. */
inline map_lock(place, who)
{
	atomic {
		if
		:: pmd[place] >= TABLES -> t = NONE
		:: pmd[place] < TABLES && pt_lock[ptl(pmd[place])] == 0 ->
			t = pmd[place];
			assert(pt_state[t] == LIVE);
			pt_lock[ptl(t)] = who
		fi
	}
}

inline map_unlock()
{
	d_step { pt_lock[ptl(t)] = 0; t = NONE }
}

/* ---- The speculative fault ---- */

/* Every way out goes past these labels: what an abort holds is given back there. */
#define ABORT		goto out
#define ABORT_LOCKED	goto out_unlock

/* Where the pmd and the sequence are looked at again. */
#ifdef MUT_NO_PMD_RECHECK
#define pmd_changed	false
#else
#define pmd_changed	(pmd[a] != t)
#endif
#ifdef MUT_NO_SEQ_CHECK
#define vma_changed	false
#else
#define vma_changed	(vm_lock_seq[v] != seq)
#endif

proctype speculator(byte me)
{
	byte a = OLD, v = NONE, seq, t = NONE, orig, i;
	bool page;

	if
	:: true
	:: a = NEW
	fi;

	/* vma_speculate_begin() */
	rcu_lock(me);
	v = tree[a];
	if
	:: v == NONE -> ABORT
	:: else
	fi;
	seq = vm_lock_seq[v];
#ifndef MUT_NO_MM_LOCK_SEQ
	if
	:: seq == mm_lock_seq -> ABORT
	:: else
	fi;
#endif
	if
	:: !vm_attached[v] -> ABORT
	:: else
	fi;

	/* The walk; and the entry as handle_pte_fault() finds it, still unlocked. */
	t = pmd[a];
	if
	:: t == NONE || t == HUGE -> ABORT
	:: else
	fi;
	atomic {
		assert(pt_state[t] != FREE);
		orig = pte[t];
		if
		:: orig == FRESH -> ABORT	/* nothing to do */
		:: else
		fi;
		if
		:: page = true
		:: true -> ABORT		/* out of memory */
		fi
	}

#ifdef MUT_CHECK_BEFORE_LOCK
	if
	:: pmd_changed -> ABORT
	:: else
	fi;
	if
	:: vma_changed -> ABORT
	:: else
	fi;
#endif
	atomic {
		assert(pt_state[t] != FREE);	/* the lock lives and dies with its table */
		if
		:: pt_lock[ptl(t)] != 0 -> ABORT
		:: else -> pt_lock[ptl(t)] = me + 1
		fi
	}
#ifndef MUT_CHECK_BEFORE_LOCK
	if
	:: pmd_changed -> ABORT_LOCKED
	:: else
	fi;
	if
	:: vma_changed -> ABORT_LOCKED
	:: else
	fi;
#endif
#ifndef MUT_NO_PTE_SAME
	/* vmf_pte_changed(), pte_same() */
	if
	:: pte[t] != orig -> ABORT_LOCKED
	:: else
	fi;
#endif

	/* Another page: clear and flush first. */
	if
	:: orig == ONCE ->
		d_step { assert(pte[t] == orig); set_pte(t, EMPTY) }
		flush_tlb(a)
	:: else
	fi;

	/* set_pte_at(): what must hold for an entry that appears now. */
	atomic {
#ifdef COMMITS
		assert(false);
#endif
		assert(pt_state[t] == LIVE);	/* no write to a freed table */
		assert(pt_lock[ptl(t)] == me + 1);
		if
		:: orig == ONCE			/* looked at before it was cleared */
		:: else -> assert(pte[t] == EMPTY)	/* no double map */
		fi;
		judge_place(pmd[a] == t);	/* not moved, not taken away */
		judge_gone(seq >= passed[v]);
		set_pte(t, FRESH);
		page = false
	}
#ifdef HASH
	atomic {
		judge_lost(copying != a);	/* it would be written to while it is copied */
		tlb[a] = tlb[a] | FRESH
	}
#endif
	/* The folio that was copied is put behind the unlock, by rmap before it. */
	atomic {
		if
		:: orig == ONCE -> drop_once()
		:: else
		fi
	}
#ifdef MUT_KEEP_LOCK
	pt_lock[ptl(t)] = 0;
	goto out;
#endif
out_unlock:
#ifndef MUT_KEEP_LOCK
	assert(pt_lock[ptl(t)] == me + 1);
	pt_lock[ptl(t)] = 0;
#endif
out:
#ifndef MUT_KEEP_PAGE
	page = false;				/* folio_put() */
#endif
#ifdef MUT_KEEP_RCU
	if
	:: v == NONE
	:: else -> rcu_unlock(me)
	fi;
#else
	rcu_unlock(me);
#endif
	atomic {
		/* vma_speculate_fault(): nothing is held on any way out. */
		for (i : 0 .. TABLES - 1) {
			assert(pt_lock[i] != me + 1)
		}
		assert(!page);
		assert(!(rcu_readers & (1 << me)));
		i = 0; a = 0; v = 0; seq = 0; t = 0; orig = 0; page = false
	}
}

/* ---- Writers ---- */

/* mmap_write_lock(), mmap_write_unlock(): the sequence is the lock. */
#define mmap_write_lock()	mm_lock_seq++
#define vma_end_write_all()	mm_lock_seq++

#define vma_start_write(v)	atomic { !vm_read[v] -> vm_lock_seq[v] = mm_lock_seq }

/* spf_drain_page_table() */
#define drain(t)		pt_lock[ptl(t)] == 0

#if defined(MUT_NO_DRAIN) || defined(MUT_EARLY_DRAIN) || defined(MUT_LATE_DRAIN) || defined(ONE_LOCK)
#define drain_in_place(t)	skip
#else
#define drain_in_place(t)	drain(t)
#endif

#ifdef MUT_LATE_DRAIN
#define drain_late(t)		drain(t)
#else
#define drain_late(t)		skip
#endif

inline drain_early(spot)
{
#ifdef MUT_EARLY_DRAIN
	t = pmd[spot];
	if
	:: t < TABLES -> drain(t)
	:: else
	fi;
	t = NONE
#else
	skip
#endif
}

/* A VMA that is write-locked from its insertion to the end of the section */
inline vma_link(new, at)
{
	atomic {
		new = next_vma;
		next_vma++;
		vm_lock_seq[new] = mm_lock_seq;
		vm_attached[new] = true;
		assert(tree[at] == NONE);
		tree[at] = new
	}
}

/*
 * vms_gather_munmap_vmas() and vms_complete_munmap_vmas(), of a VMA that is
 * write-locked. zap_pmd_range() skips an empty pmd without any lock.
 */
inline unmap(area, vma)
{
	vm_attached[vma] = false;
	tree[area] = NONE;
	atomic {
		if
		:: pmd[area] == NONE -> passed[vma] = NONE; t = NONE
		:: pmd[area] == HUGE -> t = HUGE
		:: pmd[area] < TABLES && pt_lock[ptl(pmd[area])] == 0 ->
			t = pmd[area];
			assert(pt_state[t] == LIVE);
			pt_lock[ptl(t)] = WRITER
		fi
	}
	if
	:: t == NONE
	:: t == HUGE ->				/* zap_huge_pmd(), zap_deposited_table() */
		lock_pmd(area, WRITER);
		atomic { pmd[area] = NONE; passed[vma] = NONE }
		t = deposited[area];
		deposited[area] = NONE;
		unlock_pmd(area);
		flush_tlb(area);
#ifdef MUT_DEPOSIT_AT_ONCE
		pt_state[t] = FREE
#else
		free_table(t)
#endif
	:: else ->
		d_step { set_pte(t, EMPTY); passed[vma] = NONE }
		pt_lock[ptl(t)] = 0;
#ifdef BESIDE
		flush_tlb(area)
#else
		pmd[area] = NONE;		/* free_pgtables() */
		flush_tlb(area);
		free_table(t)
#endif
	fi;
	t = NONE;
	judge_stale(tlb[area] == 0)		/* what was mapped here is freed now */
}

#ifndef BESIDE
/* move_normal_pmd(), move_huge_pmd() */
inline move_page_table(src, dst, vma)
{
	t = pmd[src];				/* get_old_pmd() */
	if
	:: t == NONE -> passed[vma] = mm_lock_seq
	:: else ->
		lock_pmd(src, WRITER);
		if_not_the_same(lock_pmd(dst, WRITER));
		t = pmd[src];
		assert(t != NONE && pmd[dst] == NONE);
		if
		:: t == HUGE ->
			atomic { pmd[src] = NONE; passed[vma] = mm_lock_seq }
			d_step {
				pmd[dst] = HUGE;
				deposited[dst] = deposited[src];
				deposited[src] = NONE
			}
		:: else ->
			drain_in_place(t);
			atomic { pmd[src] = NONE; passed[vma] = mm_lock_seq; moved = pte[t] }
			d_step { set_pmd(dst, t) }
			drain_late(t)
		fi;
		flush_tlb(src);
		if_not_the_same(unlock_pmd(dst));
		unlock_pmd(src)
	fi
}
#else
/* pte_alloc(), move_ptes() */
inline move_page_table(src, dst, vma)
{
	atomic {
		t = pmd[src];
		if
		:: t == NONE -> passed[vma] = mm_lock_seq
		:: else
		fi
	}
	if
	:: t == NONE
	:: else ->
		pte_alloc(dst, WRITER);
		t = pmd[dst];
		if
		:: t == NONE
		:: else ->
			lock_table(pmd[src], WRITER);
			lock_table(t, WRITER);
			assert(pte[t] == EMPTY);
			d_step {
				moved = pte[pmd[src]];
				set_pte(pmd[src], EMPTY);
				passed[vma] = mm_lock_seq
			}
			d_step { set_pte(t, moved) }
			flush_tlb(src);
			pt_lock[t] = 0;
			pt_lock[pmd[src]] = 0
		fi
	fi
}
#endif

/* What was moved is what is there, until mmap_lock is dropped. */
inline check_moved(there)
{
	if
	:: pmd[there] < TABLES -> judge_moved(pte[pmd[there]] == moved)
	:: else
	fi;
	t = NONE;
	moved = EMPTY
}

/* move_vma() */
inline do_move(from, to)
{
	drain_early(from);
	vma_start_write(v);
	if
	:: true					/* copy_vma(): out of memory */
	:: true ->
		vma_link(n, to);
		move_page_table(from, to, v);
		if
		:: true ->			/* unmap_source_vma() */
			unmap(from, v);
			check_moved(to)
		:: true ->			/* MREMAP_DONTUNMAP: it stays, without pages */
			judge_stale(tlb[from] == 0);
			check_moved(to)
		:: true ->			/* an error: moved back */
			check_moved(to);
			move_page_table(to, from, n);
			unmap(to, n);
			check_moved(from)
		fi
	fi;
	n = NONE
}

/* collapse_huge_page(), for a pmd or for smaller folios */
inline do_collapse(a)
{
	drain_early(a);
	vma_start_write(v);
	t = pmd[a];				/* check_pmd_still_valid() */
	if
	:: t == NONE || t == HUGE
	:: else ->
		lock_pmd(a, WRITER);
		drain_in_place(t);
		pmd[a] = NONE;			/* pmdp_collapse_flush() */
		flush_tlb(a);
		unlock_pmd(a);

		lock_table(t, WRITER);
		moved = pte[t];			/* __collapse_huge_page_isolate() */
		pt_lock[ptl(t)] = 0;
		if
		:: true ->			/* it failed */
			lock_pmd(a, WRITER);
			d_step { assert(pmd[a] == NONE); set_pmd(a, t) }
			unlock_pmd(a)
		:: true ->			/* __collapse_huge_page_copy() */
			atomic {
				judge_lost(tlb[a] == 0);
				judge_lost(pte[t] == moved);
				copying = a
			}
			if
			:: true ->		/* _copy_failed(), release_pte_pages() */
				lock_pmd(a, WRITER);
				d_step {
					assert(pmd[a] == NONE);
					set_pmd(a, t);
					copying = NONE
				}
				unlock_pmd(a);
				judge_lost(pte[t] == moved)
			:: true ->		/* _copy_succeeded() */
				atomic {
					pt_lock[ptl(t)] == 0 -> pt_lock[ptl(t)] = WRITER;
					judge_lost(pte[t] == moved);	/* dropped as it was copied */
					set_pte(t, EMPTY)
				}
				pt_lock[ptl(t)] = 0;
				lock_pmd(a, WRITER);
				if
				:: true ->
					d_step {
						assert(pmd[a] == NONE);
						deposited[a] = t;
						pmd[a] = HUGE;
						copying = NONE
					}
				:: true ->	/* smaller than a pmd */
					if_not_the_same(lock_table(t, WRITER));
					d_step { assert(pmd[a] == NONE); set_pmd(a, t); copying = NONE }
					d_step { assert(pte[t] == EMPTY); set_pte(t, FRESH) }
					if_not_the_same(pt_lock[ptl(t)] = 0)
				fi;
				unlock_pmd(a)
			fi
		fi
	fi;
	t = NONE;
	moved = 0
}

proctype writer()
{
	byte done = 0, a, v = NONE, n = NONE, t = NONE, moved;

	do
	:: done < SECTIONS ->
		mmap_write_lock();
		if
		:: a = OLD
		:: a = NEW
		fi;
		v = tree[a];
		if
#ifdef OP_MOVE
		:: v != NONE && tree[1 - a] == NONE -> do_move(a, 1 - a)
#endif
#ifdef OP_COLLAPSE
		:: v != NONE -> do_collapse(a)
#endif
#ifdef OP_MUNMAP
		:: v != NONE ->
			vma_start_write(v);
			unmap(a, v)
#endif
#ifdef OP_MMAP
		:: v == NONE ->
			vma_link(n, a);
			n = NONE
#endif
		:: true				/* a section that has nothing to do with it */
		fi;
		atomic { vma_end_write_all(); v = NONE; a = 0; done++ }
	:: else -> break
	od
}

#ifdef NEIGHBOUR
proctype neighbour()
{
	byte a = OLD, v = NONE, t = NONE;

	if
	:: true
	:: a = NEW
	fi;
#ifdef BESIDE
	/* A fault in the VMA beside ours */
	if
	:: true
	:: pte_alloc(a, NEIGHBOUR_ID); goto out
	fi;
#endif
	/* lock_vma_under_rcu() */
	atomic {
		v = tree[a];
		if
		:: v != NONE && vm_lock_seq[v] != mm_lock_seq -> vm_read[v] = true
		:: else -> goto out
		fi
	}
	if
	:: true ->				/* a fault as mainline runs it */
		pte_alloc(a, NEIGHBOUR_ID);
		map_lock(a, NEIGHBOUR_ID);
		if
		:: t == NONE
		:: else ->
			if
			:: pte[t] == EMPTY -> d_step { set_pte(t, FRESH) }
			:: pte[t] == ONCE ->
				d_step { set_pte(t, EMPTY) }
				flush_tlb(a);
				d_step { set_pte(t, FRESH) }
				drop_once()
			:: else
			fi;
			map_unlock()
		fi
#ifdef OP_COLLAPSE
	:: true ->				/* __split_huge_pmd(): fills a deposited table */
		lock_pmd(a, NEIGHBOUR_ID);
		if
		:: pmd[a] == HUGE ->
			t = deposited[a];
			deposited[a] = NONE;
			d_step { assert(pte[t] == EMPTY); set_pte(t, FRESH) }
			d_step { assert(pmd[a] == HUGE); set_pmd(a, t) }
			t = NONE
		:: else
		fi;
		unlock_pmd(a)
#endif
#ifdef RECLAIM
	:: true ->				/* zap_pte_range(), zap_pte_table_if_empty() */
		map_lock(a, NEIGHBOUR_ID);
		if
		:: t == NONE
		:: else ->
			d_step { set_pte(t, EMPTY) }
			map_unlock();
			flush_tlb(a)
		fi;
		lock_pmd(a, NEIGHBOUR_ID);
		map_lock(a, NEIGHBOUR_ID);
		if
		:: t == NONE -> unlock_pmd(a)
		:: t != NONE && pte[t] != EMPTY ->
			map_unlock();
			unlock_pmd(a)
		:: t != NONE && pte[t] == EMPTY ->
			pmd[a] = NONE;
			pt_lock[ptl(t)] = 0;
			unlock_pmd(a);
			free_table(t);
			t = NONE
		fi
#endif
	fi;
	vm_read[v] = false;
out:
	atomic { a = 0; v = NONE }
}
#endif

init {
	byte i;

	atomic {
		vm_lock_seq[0] = 1;
		vm_attached[0] = true;
		tree[OLD] = 0;
		next_vma = 1;
		if
		:: TABLE ->
			pt_state[0] = LIVE;
			pmd[OLD] = 0;
#ifndef EMPTY_FIRST
			if
			:: true -> pte[0] = ONCE
			:: true
			fi;
#endif
			see(OLD)
		:: else
		fi;
		for (i : 0 .. SPECULATORS - 1) {
			run speculator(i)
		}
		run writer();
#ifdef NEIGHBOUR
		run neighbour();
#endif
		i = 0
	}
}

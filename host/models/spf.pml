/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The core of the speculative page fault: can a fault that takes neither
 * mmap_lock nor the VMA lock commit a page that a writer has already passed by?
 *
 * One address A of one process (mm 0), the pmd entry above A, a few PTE tables
 * and a few VMA objects. Processes: the speculative fault, one writer that runs
 * SECTIONS write sections chosen freely, and, where a configuration asks for
 * them, a neighbour's fault, a mainline fault in the same VMA, a page-table
 * reclaimer and another mm that takes VMA objects from the same slab cache.
 *
 * What is abstracted, and why that loses nothing that the properties are about:
 *
 *  - Memory is sequentially consistent. Barriers are the litmus tests' subject.
 *  - mmap_lock has one writer process. Its sections follow each other as those
 *    of several threads would; what runs beside it takes no mmap_lock.
 *  - The maple tree is the pointer found at A. A walk through nodes that are
 *    already dead returns what was there at some moment of the walker's own RCU
 *    section, hence the same as an earlier walk.
 *  - pte_offset_map_lock() of everything that is not speculative is one step:
 *    its own recheck makes it look like that.
 *  - A trylock that fails aborts. Spinning first is the same as trying later.
 *  - A grace period ends at the first moment at which it may: memory that could
 *    be reused later can be reused at once. No section may rely on more.
 *  - A freed object keeps vm_mm, vm_lock_seq and vm_refcnt, as SLUB leaves them;
 *    all else is poison (free pointer, rcu_head), from kfree_rcu() on.
 *
 * Configuration, by -D:
 *  SECTIONS=n   write sections (default 2)      SPECULATORS=n  faults in flight (1)
 *  TABLE=0      the pmd starts empty            VMAS=n TABLES=n objects there are (2)
 *  OP_MUNMAP OP_MMAP OP_MPROTECT OP_FORK OP_SPLIT OP_MERGE     what sections may do
 *  NEIGHBOUR    a VMA beside ours shares the table: it stays, and its faults
 *               populate the pmd; OP_MUNMAP_NEIGHBOUR lets it go as well
 *  FAULT        a mainline fault, under the VMA lock, at A
 *  RECLAIM      MADV_DONTNEED with PT_RECLAIM, under the VMA lock
 *  OTHER_MM     another process allocates and frees VMAs
 *  KTHREAD_LATE the fault is a kernel thread's that took the mm just now, and is
 *               counted in mm_users. The series refuses it: this order of steps
 *               would hold, but on real CPUs nothing orders them
 *  COMMIT_ONLY  judge what is mapped, not what is copied: a mutant then has to
 *               do harm in a page table to be caught
 *  COMMITS      fail at the first commit: shows that one is reached
 * Mutants, each one a rule of the protocol left out or replaced:
 *  MUT_NO_REFCNT MUT_NO_MM_LOCK_SEQ MUT_NO_RECHECK MUT_NO_SEQ_CHECK
 *  MUT_NO_PMD_RECHECK MUT_CHECK_BEFORE_LOCK
 *  MUT_JUDGE_EARLY      what kind of VMA it is is judged between the two sequences
 *  MUT_TYPESAFE         VMAs are freed at once, with further reads under the PTL
 *                       in their place: VALIDATE_MM, VALIDATE_SEQ_FIRST, and
 *                       VALIDATE_REFCNT, which leaves that check out of begin
 *  MUT_FREE_AT_TWO      two users free at once
 *  MUT_USERS_EARLY      mm_users is read before the tree store
 *  MUT_UNCOUNTED_USER   the fault is one of a kernel thread not in mm_users
 *  MUT_UNCOUNTED_WRITER the writer is
 */

#ifndef SECTIONS
#define SECTIONS	2
#endif
#ifndef SPECULATORS
#define SPECULATORS	1
#endif
#ifndef TABLE
#define TABLE		1
#endif
#ifndef VMAS
#define VMAS		2
#endif
#ifndef TABLES
#define TABLES		2
#endif

#define NONE		255	/* no VMA, no table, nobody */
#define UINT_MAX	254	/* vm_lock_seq of a VMA that was never locked */

/* Life of a VMA object or a table. DYING: waits for a grace period. */
#define FREE		0
#define LIVE		1
#define DYING		2

/* Permissions, and what a PTE holds. */
#define EMPTY		0
#define RO		1
#define RW		2

/*
 * A mapping at A has an identity, which real VMAs show as their anon_vma. It
 * outlives splits and merges, and ends with munmap. POISON is no mapping at
 * all, FOREIGN one of another mm or of another address.
 */
#define POISON		0
#define FOREIGN		1
#define FIRST		2
#define MAPPINGS	(FIRST + SECTIONS + 1)

/* struct mm_struct, ours. The sequence is odd while mmap_lock is write-held. */
byte mm_lock_seq = 2;
byte mm_users;
#ifdef MUT_USERS_EARLY
byte users_early;
#endif
byte tree = NONE;
#ifdef NEIGHBOUR
bool beside = true;	/* the neighbour is mapped, */
bool beside_read;	/* and its VMA lock is held */
#else
#define beside false
#endif

/* struct vm_area_struct. */
byte vm_state[VMAS];
byte vm_mm[VMAS];
byte vm_lock_seq[VMAS];
byte vm_refcnt[VMAS];
bool vm_excl[VMAS];	/* VM_REFCNT_EXCLUDE_READERS_FLAG */
bool vm_covers[VMAS];	/* vm_start, vm_end: A is inside */
byte vm_flags[VMAS];
byte vm_page_prot[VMAS];
byte vm_anon[VMAS];

/* Page tables. */
byte pmd = NONE;
byte pmd_lock;		/* 0 or who holds it */
byte pt_state[TABLES];
byte pt_lock[TABLES];
byte pte[TABLES];

/* Who was in an RCU section when the object was handed to call_rcu(). */
byte rcu_readers;	/* one bit a speculator */
byte vm_wait[VMAS];
byte pt_wait[TABLES];

/* What the properties are said with; no process decides anything by these. */
bool gone[MAPPINGS];	/* munmap has passed A: no PTE of this mapping may come */
byte prot[MAPPINGS];	/* permission since mprotect has passed A */
byte next_mapping = FIRST;

#define WRITER		100
#define NEIGHBOUR_ID	101
#define FAULT_ID	102
#define RECLAIM_ID	103

/* rcu_read_lock(), rcu_read_unlock(): the latter ends the grace periods that wait for us alone. */
inline rcu_lock(me)
{
	rcu_readers = rcu_readers | (1 << me)
}

inline rcu_unlock(me)
{
	d_step {
		rcu_readers = rcu_readers & ~(1 << me);
		for (i : 0 .. VMAS - 1) {
			vm_wait[i] = vm_wait[i] & ~(1 << me);
			if
			:: vm_state[i] == DYING && vm_wait[i] == 0 -> vm_state[i] = FREE
			:: else
			fi
		}
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

/* tlb_remove_table(): all tables are freed after a grace period. */
inline free_table(t)
{
	d_step {
		assert(pt_state[t] == LIVE);
		assert(pte[t] == EMPTY);	/* a page would leak */
		pt_wait[t] = rcu_readers;
		if
		:: rcu_readers == 0 -> pt_state[t] = FREE
		:: else -> pt_state[t] = DYING
		fi
	}
}

/*
 * vm_area_free() as the series has it: mm_users is read after the detach and
 * the tree store, and only the last user frees at once.
 */
#if defined(MUT_TYPESAFE)
#define AT_ONCE		255
#elif defined(MUT_FREE_AT_TWO)
#define AT_ONCE		2
#else
#define AT_ONCE		1
#endif
#ifdef MUT_USERS_EARLY
#define USERS		users_early
#else
#define USERS		mm_users
#endif

inline vm_area_free(v)
{
	atomic {
		assert(vm_state[v] == LIVE && vm_refcnt[v] == 0);
		vm_covers[v] = true;
		vm_flags[v] = RW;
		vm_page_prot[v] = RW;
		vm_anon[v] = POISON;
		if
		:: USERS <= AT_ONCE -> vm_state[v] = FREE
		:: else ->
			vm_wait[v] = rcu_readers;
			if
			:: rcu_readers == 0 -> vm_state[v] = FREE
			:: else -> vm_state[v] = DYING
			fi
		fi
	}
}

/* pte_alloc(): pmd_install() looks under the pmd lock whether another was first. */
inline pte_alloc(me)
{
	if
	:: pmd != NONE
	:: else ->
		atomic { pmd_lock == 0 -> pmd_lock = me }
		if
		:: pmd == NONE ->
			atomic {
				t = 0;
				do
				:: t < TABLES && pt_state[t] != FREE -> t++
				:: else -> break
				od;
				if
				:: t < TABLES ->
					pt_state[t] = LIVE;
					pte[t] = EMPTY;
					pmd = t
				:: else		/* out of memory */
				fi;
				t = NONE
			}
		:: else
		fi;
		pmd_lock = 0
	fi
}

/* pte_offset_map_lock(): t is NONE where there is no table. */
inline map_lock(me)
{
	atomic {
		if
		:: pmd == NONE -> t = NONE
		:: pmd != NONE && pt_lock[pmd] == 0 ->
			t = pmd;
			assert(pt_state[t] == LIVE);
			pt_lock[t] = me
		fi
	}
}

inline map_unlock()
{
	d_step { pt_lock[t] = 0; t = NONE }
}

/* ---- The speculative fault ---- */

/*
 * Every way out of a fault goes here. A fault that has taken the PTL drops it
 * first, so nothing may be held.
 */
#define ABORT		goto out
#define ABORT_LOCKED	goto out_unlock

proctype speculator(byte me)
{
	byte v = NONE, seq, t = NONE, orig, i;
	byte s_flags, s_prot, s_anon, judged;
	bool s_covers, write;

	if
	:: write = true
	:: write = false
	fi;

#ifdef KTHREAD_LATE
	mm_users++;				/* kthread_use_mm() after mmget() */
#endif
	/* vma_speculate_begin() */
	rcu_lock(me);
	v = tree;				/* mtree_load() */
	if
	:: v == NONE -> ABORT
	:: else
	fi;
	seq = vm_lock_seq[v];
#ifdef MUT_JUDGE_EARLY
	judged = vm_flags[v];
#endif
#ifndef MUT_NO_MM_LOCK_SEQ
	if
	:: seq == mm_lock_seq -> ABORT
	:: else
	fi;
#endif
	if
	:: seq % 2 == 0 -> ABORT		/* UINT_MAX here is even: 0 and it alike */
	:: else
	fi;
#if !defined(MUT_NO_REFCNT) && !defined(VALIDATE_REFCNT)
	if
	:: vm_refcnt[v] == 0 -> ABORT
	:: else
	fi;
#endif
#ifndef MUT_JUDGE_EARLY
	judged = vm_flags[v];			/* vma_can_speculate() */
#endif
	t = pmd;				/* spf_walk() */
	if
	:: t == NONE -> ABORT
	:: else
	fi;

	/* snapshot_vma() */
	s_anon = vm_anon[v];
	s_covers = vm_covers[v];
	s_flags = vm_flags[v];
	s_prot = vm_page_prot[v];
#ifndef MUT_NO_RECHECK
	if
	:: vm_lock_seq[v] != seq -> ABORT
	:: else
	fi;
#endif
	/* The handlers believe what they are given before they can validate it. */
#ifndef COMMIT_ONLY
	assert(s_anon != POISON && s_flags == s_prot);
	/* Nor do they judge again what was judged before the copy. */
	assert(judged == s_flags);
#endif
	if
	:: !s_covers -> ABORT
	:: write && s_flags == RO -> ABORT	/* access_error() */
	:: else
	fi;

	/* The PTE as handle_pte_fault() finds it, still unlocked. */
	atomic {
		assert(pt_state[t] != FREE);
		orig = pte[t]
	}
	if
	:: orig == RW || (orig == RO && !write) -> ABORT	/* nothing to do */
	:: else
	fi;

	/* pte_map_lock() */
#ifdef MUT_CHECK_BEFORE_LOCK
	if
	:: vm_lock_seq[v] != seq -> ABORT
	:: else
	fi;
#endif
	atomic {
		assert(pt_state[t] != FREE);	/* the lock lives and dies with its table */
		if
		:: pt_lock[t] != 0 -> ABORT
		:: else -> pt_lock[t] = me + 1
		fi
	}
#ifndef MUT_NO_PMD_RECHECK
	if
	:: pmd != t -> ABORT_LOCKED
	:: else
	fi;
#endif
#ifdef VALIDATE_SEQ_FIRST
	if
	:: vm_lock_seq[v] != seq -> ABORT_LOCKED
	:: else
	fi;
#endif
#ifdef VALIDATE_MM
	if
	:: vm_mm[v] != 0 -> ABORT_LOCKED
	:: else
	fi;
#endif
#if !defined(MUT_NO_SEQ_CHECK) && !defined(MUT_CHECK_BEFORE_LOCK)
	if
	:: vm_lock_seq[v] != seq -> ABORT_LOCKED
	:: else
	fi;
#endif
#ifdef VALIDATE_REFCNT
	if
	:: vm_refcnt[v] == 0 -> ABORT_LOCKED
	:: else
	fi;
#endif
	/* vmf_pte_changed() */
	if
	:: pte[t] != orig -> ABORT_LOCKED
	:: else
	fi;

	/* set_pte_at(): what must hold for a PTE that appears at A now. */
	atomic {
#ifdef COMMITS
		assert(false);
#endif
		assert(pt_state[t] == LIVE);	/* no write to a freed table */
		assert(pmd == t);		/* nor to one that nobody will find */
		assert(pt_lock[t] == me + 1);
		assert(pte[t] == orig);		/* no double map */
		assert(s_anon >= FIRST);	/* a mapping of ours, */
		assert(!gone[s_anon]);		/* not unmapped, */
		assert(s_prot == prot[s_anon]);	/* with the permission of today */
		if
		:: write -> assert(s_prot == RW); pte[t] = RW
		:: else -> pte[t] = RO
		fi
	}
out_unlock:
	assert(pt_lock[t] == me + 1);
	pt_lock[t] = 0;
out:
	rcu_unlock(me);
	atomic {
		/* vma_speculate_end(): nothing is held on any way out. */
		for (i : 0 .. TABLES - 1) {
			assert(pt_lock[i] != me + 1)
		}
		assert(!(rcu_readers & (1 << me)));
		i = 0; v = NONE; seq = 0; t = NONE; orig = 0; s_flags = 0; s_prot = 0;
		s_anon = 0; s_covers = false; write = false
	}
#ifndef MUT_UNCOUNTED_USER
	mm_users--				/* exit_mm(), at any later time */
#endif
}

/* ---- Writers ---- */

/* vma_start_write(): drains the holders of the VMA lock, then stores the sequence. */
inline vma_start_write(v)
{
	if
	:: vm_lock_seq[v] == mm_lock_seq
	:: else ->
		if
		:: vm_refcnt[v] == 0 -> vm_lock_seq[v] = mm_lock_seq
		:: else ->
			vm_excl[v] = true;
			vm_refcnt[v] == 1;
			vm_lock_seq[v] = mm_lock_seq;
			vm_excl[v] = false
		fi
	fi
}

/* vma_mark_detached(), which waits out those that only look in */
inline vma_mark_detached(v)
{
	vm_refcnt[v]--;
	if
	:: vm_refcnt[v] == 0
	:: else ->
		vm_excl[v] = true;
		vm_refcnt[v] == 0;
		vm_excl[v] = false
	fi
}

/* kmem_cache_alloc(): any free object; NONE if there is no free one */
inline vm_alloc(v)
{
	atomic {
		v = 0;
		do
		:: v < VMAS && vm_state[v] != FREE -> v++
		:: v < VMAS && vm_state[v] == FREE -> break
		:: v < VMAS -> v++
		:: v == VMAS -> v = NONE; break
		od;
		if
		:: v != NONE -> vm_state[v] = LIVE
		:: else
		fi
	}
}

/* vma_init(), from vm_area_alloc() */
inline vma_init(v)
{
	d_step {		/* memset(); nobody looks at two fields of it at once */
		vm_covers[v] = false;
		vm_flags[v] = 0;
		vm_page_prot[v] = 0;
		vm_anon[v] = POISON
	}
	vm_mm[v] = NONE;
	vm_lock_seq[v] = 0;
	vm_refcnt[v] = 0;
	vm_mm[v] = 0;
	vm_lock_seq[v] = UINT_MAX
}

/* vm_area_dup(): the source's mm and fields come first, vma_lock_init() last. */
inline vm_area_dup(v, mm, covers, perm, anon)
{
	vm_mm[v] = mm;
	d_step {
		vm_covers[v] = covers;
		vm_flags[v] = perm;
		vm_page_prot[v] = perm;
		vm_anon[v] = anon
	}
	vm_refcnt[v] = 0;
	vm_lock_seq[v] = UINT_MAX
}

/* unmap_vmas(): zap_pmd_range() skips an empty pmd without any lock. */
inline unmap_vmas(m)
{
	atomic {
		if
		:: pmd == NONE -> gone[m] = true; t = NONE
		:: pmd != NONE && pt_lock[pmd] == 0 ->
			t = pmd;
			assert(pt_state[t] == LIVE);
			pt_lock[t] = WRITER
		fi
	}
	if
	:: t == NONE
	:: else ->
		atomic { pte[t] = EMPTY; gone[m] = true }
		map_unlock()
	fi
}

/* free_pgtables(): takes no lock, and leaves a table that another VMA shares. */
inline free_pgtables(shared)
{
	if
	:: shared || pmd == NONE
	:: else ->
		t = pmd;
		pmd = NONE;
		free_table(t);
		t = NONE
	fi
}

/* mmap_write_lock(), mmap_write_unlock() and mmap_write_downgrade(): the sequence is the lock. */
#define mmap_write_lock()	mm_lock_seq++
#define vma_end_write_all()	mm_lock_seq++

/* vms_gather_munmap_vmas(), do_vmi_align_munmap(), vms_complete_munmap_vmas() */
inline do_munmap()
{
	vma_start_write(v);
	vma_mark_detached(v);
	if
	:: true ->				/* an error: reattach_vmas() */
		vm_refcnt[v] = 1;
		vma_end_write_all()
	:: true ->				/* munmap() downgrades */
		tree = NONE;
		vma_end_write_all();
		unmap_vmas(vm_anon[v]);
		free_pgtables(beside);
		vm_area_free(v)
	:: true ->				/* others do not */
		tree = NONE;
		unmap_vmas(vm_anon[v]);
		free_pgtables(beside);
		vm_area_free(v);
		vma_end_write_all()
	:: true ->				/* vms_clean_up_area(), vms_abort_munmap_vmas() */
		unmap_vmas(vm_anon[v]);
		free_pgtables(beside);
		tree = NONE;
		vm_area_free(v);
		vma_end_write_all()
	fi
}

/* __split_vma(): A goes to a new object, the old one shrinks away from it. */
inline do_split()
{
	vm_alloc(n);
	if
	:: n == NONE
	:: else ->
		vm_area_dup(n, 0, true, vm_flags[v], vm_anon[v]);
		vma_start_write(v);
		vma_start_write(n);
		vm_covers[v] = false;
		vm_anon[v] = FOREIGN;
		vm_refcnt[n] = 1;
		tree = n;
		rest = v;
		v = n;
		n = NONE
	fi
}

/* munmap() of the neighbour. Its own pages are no concern here, the table is. */
inline do_munmap_neighbour()
{
	atomic { !beside_read -> beside = false }	/* vma_start_write(), detach */
	if
	:: true ->
		vma_end_write_all();
		free_pgtables(tree != NONE)
	:: true ->
		free_pgtables(tree != NONE);
		vma_end_write_all()
	fi
}

/* vma_merge_existing_range() and commit_merge(): the rest takes A back. */
inline do_merge()
{
	vma_start_write(rest);
	vma_start_write(v);
	d_step { vm_anon[rest] = vm_anon[v]; vm_flags[rest] = vm_flags[v]; }
	vm_page_prot[rest] = vm_page_prot[v];
	vm_covers[rest] = true;
	tree = rest;
	vma_mark_detached(v);
	vm_area_free(v);
	v = NONE;
	rest = NONE;
	vma_end_write_all()
}

/* __mmap_region(): the new VMA is in the tree before the old one's pages go. */
inline do_mmap()
{
	if
	:: v == NONE
	:: else ->
		vma_start_write(v);
		vma_mark_detached(v)
	fi;
	vm_alloc(n);
	if
	:: n == NONE ->
		if
		:: v == NONE
		:: else -> vm_refcnt[v] = 1	/* out of memory: reattach_vmas() */
		fi
	:: else ->
		vma_init(n);
		vm_covers[n] = true;
		if
		:: vm_flags[n] = RW
		:: vm_flags[n] = RO
		fi;
		vm_page_prot[n] = vm_flags[n];
		d_step {
			vm_anon[n] = next_mapping;
			prot[next_mapping] = vm_flags[n];
			next_mapping++
		}
		vma_start_write(n);
		vm_refcnt[n] = 1;		/* vma_iter_store_new() */
		tree = n;
		if
		:: v == NONE
		:: else ->
			unmap_vmas(vm_anon[v]);
			free_pgtables(beside);
			vm_area_free(v)
		fi;
		n = NONE
	fi;
	vma_end_write_all()
}

/* mprotect_fixup(), change_protection() */
inline do_mprotect()
{
	vma_start_write(v);
	vm_flags[v] = RO + RW - vm_flags[v];
	vm_page_prot[v] = vm_flags[v];
	atomic {
		if
		:: pmd == NONE -> prot[vm_anon[v]] = vm_flags[v]; t = NONE
		:: pmd != NONE && pt_lock[pmd] == 0 ->
			t = pmd;
			assert(pt_state[t] == LIVE);
			pt_lock[t] = WRITER
		fi
	}
	if
	:: t == NONE
	:: else ->
		atomic {
			prot[vm_anon[v]] = vm_flags[v];
			if
			:: pte[t] == RW && vm_flags[v] == RO -> pte[t] = RO
			:: else
			fi
		}
		map_unlock()
	fi;
	vma_end_write_all()
}

/*
 * dup_mmap(): the child's object shows the parent's mm until it is told its own,
 * and its first sequence is 1, like that of every VMA of every child.
 */
inline do_fork()
{
	if
	:: v == NONE
	:: else -> vma_start_write(v)
	fi;
	vm_alloc(n);
	if
	:: n == NONE
	:: else ->
		if
		:: v == NONE -> vm_area_dup(n, 0, false, RW, FOREIGN)
		:: else -> vm_area_dup(n, 0, true, vm_flags[v], FOREIGN)
		fi;
		vm_mm[n] = 1;
		vm_lock_seq[n] = 1;
		vm_refcnt[n] = 1;
		n = NONE
	fi;
	vma_end_write_all()
}

proctype writer()
{
	byte done = 0, v = NONE, n = NONE, rest = NONE, t = NONE;

	do
	:: done < SECTIONS ->
		mmap_write_lock();
		v = tree;
#ifdef MUT_USERS_EARLY
		users_early = mm_users;
#endif
		if
#ifdef OP_MUNMAP
		:: v != NONE -> do_munmap()
#endif
#ifdef OP_SPLIT
		:: v != NONE && rest == NONE -> do_split(); vma_end_write_all()
#ifdef OP_MUNMAP
		:: v != NONE && rest == NONE -> do_split(); do_munmap()
#endif
#endif
#ifdef OP_MERGE
		:: v != NONE && rest != NONE -> do_merge()
#endif
#ifdef OP_MMAP
		:: true -> do_mmap()
#endif
#ifdef OP_MPROTECT
		:: v != NONE -> do_mprotect()
#endif
#ifdef OP_MUNMAP_NEIGHBOUR
		:: beside -> do_munmap_neighbour()
#endif
#ifdef OP_FORK
		:: true -> do_fork()
#endif
		:: true -> vma_end_write_all()	/* a section that has nothing to do with A */
		fi;
		atomic { v = NONE; done++ }
	:: else -> break
	od
}

/* ---- The rest of the world ---- */

#ifdef NEIGHBOUR
/* A fault in the VMA beside ours: holds that VMA, never ours. */
proctype neighbour()
{
	byte t = NONE;

	atomic {
		if
		:: beside -> beside_read = true
		:: else -> goto out
		fi
	}
	pte_alloc(NEIGHBOUR_ID);
	beside_read = false;
out:
	mm_users--
}
#endif

/*
 * lock_vma_under_rcu(). Mainline's own proof that it holds on recycled objects
 * is not repeated: the pointer and the reference are taken in one step.
 */
inline vma_read_lock()
{
	atomic {
		v = tree;
		if
		:: v != NONE && !vm_excl[v] && vm_refcnt[v] > 0 -> vm_refcnt[v]++
		:: else -> v = NONE
		fi
	}
	if
	:: v == NONE
	:: else ->
		if
		:: vm_lock_seq[v] == mm_lock_seq ->
			vm_refcnt[v]--;
			v = NONE
		:: else
		fi
	fi
}

/* do_anonymous_page() as mainline runs it */
proctype fault()
{
	byte v = NONE, t = NONE;

	vma_read_lock();
	if
	:: v == NONE
	:: else ->
		pte_alloc(FAULT_ID);
		map_lock(FAULT_ID);
		if
		:: t == NONE
		:: else ->
			if
			:: pte[t] == EMPTY -> pte[t] = vm_page_prot[v]
			:: else
			fi;
			map_unlock()
		fi;
		vm_refcnt[v]--
	fi;
	atomic { v = NONE; mm_users-- }
}

/* zap_pte_range() with reclaim_pt: both ways to the pmd lock */
proctype reclaim()
{
	byte v = NONE, t = NONE;

	vma_read_lock();
	if
	:: v == NONE
	:: else ->
		map_lock(RECLAIM_ID);
		if
		:: t == NONE
		:: else ->
			pte[t] = EMPTY;
			if
			:: true ->		/* zap_empty_pte_table() */
				atomic {
					if
					:: pmd_lock == 0 -> pmd_lock = RECLAIM_ID
					:: else -> goto busy
					fi
				}
				pmd = NONE;
				pmd_lock = 0;
				pt_lock[t] = 0;
				free_table(t);
				t = NONE
			:: true ->		/* zap_pte_table_if_empty() */
busy:				map_unlock();
				atomic { pmd_lock == 0 -> pmd_lock = RECLAIM_ID }
				map_lock(RECLAIM_ID);
				if
				:: t == NONE -> pmd_lock = 0
				:: t != NONE && pte[t] != EMPTY ->
					map_unlock();
					pmd_lock = 0
				:: t != NONE && pte[t] == EMPTY ->
					pmd = NONE;
					pt_lock[t] = 0;
					pmd_lock = 0;
					free_table(t);
					t = NONE
				fi
			fi
		fi;
		vm_refcnt[v]--
	fi;
	atomic { v = NONE; mm_users-- }
}

/* Another process: forks a VMA of its own, lives in it, and exits. */
proctype other_mm()
{
	byte n = NONE;

	vm_alloc(n);
	if
	:: n == NONE
	:: else ->
		vm_area_dup(n, 2, true, RW, FOREIGN);
		vm_mm[n] = 1;
		vm_lock_seq[n] = 1;
		vm_refcnt[n] = 1;
		vm_refcnt[n] = 0;		/* exit_mmap(): no user is left */
		d_step { vm_anon[n] = POISON; vm_state[n] = FREE }
	fi;
	n = NONE
}

init {
	byte i;

	atomic {
		vm_state[0] = LIVE;
		vm_lock_seq[0] = 1;
		vm_refcnt[0] = 1;
		vm_covers[0] = true;
		vm_anon[0] = FIRST;
		if
		:: vm_flags[0] = RW
#ifdef OP_MPROTECT
		:: vm_flags[0] = RO
#endif
		fi;
		vm_page_prot[0] = vm_flags[0];
		prot[FIRST] = vm_flags[0];
		next_mapping = FIRST + 1;
		tree = 0;
		if
		:: TABLE -> pt_state[0] = LIVE; pmd = 0
		:: else
		fi;
#if defined(MUT_UNCOUNTED_USER) || defined(KTHREAD_LATE)
		mm_users = 1;
#elif defined(MUT_UNCOUNTED_WRITER)
		mm_users = SPECULATORS;
#else
		mm_users = 1 + SPECULATORS;
#endif
		for (i : 0 .. SPECULATORS - 1) {
			run speculator(i)
		}
		run writer();
#ifdef NEIGHBOUR
		mm_users++;
		run neighbour();
#endif
#ifdef FAULT
		mm_users++;
		run fault();
#endif
#ifdef RECLAIM
		mm_users++;
		run reclaim();
#endif
#ifdef OTHER_MM
		run other_mm();
#endif
		i = 0
	}
}

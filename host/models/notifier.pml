/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The first MMU notifier of an mm: can a speculative fault, which calls no notifier,
 * still replace a page when a registration has returned?
 *
 * One page of one VMA, mapped and write-protected, and to be copied on a write.
 * Processes: the speculative faults, REGISTRANTS that want to be notified, and a
 * neighbour, a fault as mainline runs it under the VMA lock, which copies the page
 * and calls the notifiers that it sees.
 *
 * What is abstracted, beside what spf.pml abstracts in the same way (sequential
 * consistency, trylocks):
 *
 *  - What begin makes of the VMA is the subject of spf.pml: it is there all the time.
 *  - mm_take_all_locks() of the VMA locks, mmap_lock and the locks of rmap is the VMA
 *    lock of this one. Nothing else here takes the others.
 *  - A registrant is in the list when it has returned. In between it is in the list,
 *    too, and may be called too early; that is harmless.
 *  - synchronize_rcu() waits for the sections that run when it is called, and no
 *    longer.
 *  - Faults that make an entry present or writable take nothing away and are left out.
 *
 * Configuration, by -D:
 *  SPECULATORS=n REGISTRANTS=n  (defaults 2, 2)
 *  NEIGHBOUR    there is one
 *  COMMITS      fail at the first commit: shows that one is reached
 * Mutants:
 *  MUT_NO_GP            no grace period
 *  MUT_GP_FIRST         the grace period comes before the mark
 *  MUT_PUBLISH_FIRST    the subscriptions are published before the grace period
 *  MUT_NO_MARK_TEST     faults do not look at the mark
 *  MUT_TEST_OUTSIDE     they do before their RCU section
 *  MUT_TWO_SECTIONS     they do in another one than that in which they commit
 *  MUT_NO_VMA_LOCK      all locks are taken, but for those of VMAs
 *  MUT_KEEP_LOCK MUT_KEEP_PAGE MUT_KEEP_SOURCE MUT_KEEP_RCU
 *                       an abort forgets to give it back
 */

#ifndef SPECULATORS
#define SPECULATORS	2
#endif
#ifndef REGISTRANTS
#define REGISTRANTS	2
#endif

/* What the entry holds: the page that was shared, none, or one of its own. */
#define EMPTY		0
#define SHARED		1
#define OWN		2

/* struct mm_struct. The sequence is odd while mmap_lock is write-held. */
byte mm_lock_seq = 2;
bool mmap_lock;
bool mark;		/* MMF_NO_SPF_COPY */
bool subscriptions;	/* mm->notifier_subscriptions, published */

/* The VMA, and its page table. */
byte vm_lock_seq = 1;
bool vm_read;		/* the neighbour holds the VMA lock */
byte pt_lock;		/* 0 or who holds it */
byte pte = SHARED;
byte refs;		/* references of faults to the shared page */
byte pages;		/* pages that were allocated and are not mapped */

/* Who is in an RCU section, and whom a registrant waits for. */
byte rcu_readers;	/* one bit a speculator */
byte waits_for[REGISTRANTS];

/* What the property is said with. */
bool returned;		/* a registration has: it relies on being notified */

#define NEIGHBOUR_ID	101

inline rcu_lock()
{
	rcu_readers = rcu_readers | (1 << me)
}

inline rcu_unlock()
{
	d_step {
		rcu_readers = rcu_readers & ~(1 << me);
		for (i : 0 .. REGISTRANTS - 1) {
			waits_for[i] = waits_for[i] & ~(1 << me)
		}
		i = 0
	}
}

/* ---- The speculative fault ---- */

/* Every way out goes past these labels: what an abort holds is given back there. */
#define ABORT		goto out
#define ABORT_LOCKED	goto out_unlock

/* pte_spinlock(), pte_map_lock(), and pte_same() */
inline trylock()
{
	atomic {
		if
		:: pt_lock != 0 -> ABORT
		:: else -> pt_lock = me + 1
		fi
	}
	if
	:: vm_lock_seq != seq -> ABORT_LOCKED
	:: else
	fi;
	if
	:: pte != SHARED -> ABORT_LOCKED
	:: else
	fi
}

#ifdef MUT_TEST_OUTSIDE
#define MARKED		goto end
#else
#define MARKED		ABORT_LOCKED
#endif

/* spf_may_copy() */
inline test_mark()
{
#ifdef MUT_NO_MARK_TEST
	skip
#else
	if
	:: mark -> MARKED
	:: else
	fi
#endif
}

proctype speculator(byte me)
{
	byte seq, i;
	bool page, source;

#ifdef MUT_TEST_OUTSIDE
	test_mark();
#endif
	/* vma_speculate_begin() */
	rcu_lock();
	seq = vm_lock_seq;
	if
	:: seq == mm_lock_seq -> ABORT
	:: else
	fi;

	/* handle_pte_fault(), do_wp_page() */
	trylock();
#ifndef MUT_TEST_OUTSIDE
	test_mark();
#endif
	atomic { refs++; source = true }		/* folio_get() */
	pt_lock = 0;
#ifdef MUT_TWO_SECTIONS
	rcu_unlock();
	rcu_lock();
	seq = vm_lock_seq;
	if
	:: seq == mm_lock_seq -> ABORT
	:: else
	fi;
#endif

	/* wp_page_copy() */
	atomic {
		if
		:: pages++; page = true
		:: true -> ABORT			/* out of memory */
		fi
	}
	trylock();
	atomic {
		assert(refs > 0);
		assert(pte == SHARED);			/* no double map */
		pte = EMPTY				/* ptep_clear_flush() */
	}
	atomic {
#ifdef COMMITS
		assert(false);
#endif
		assert(pt_lock == me + 1);
		assert(pte == EMPTY);
		assert(!returned);			/* who has registered was to be called */
		pte = OWN;
		pages--;
		page = false
	}
out_unlock:
#ifdef MUT_KEEP_LOCK
	if
	:: mark -> goto out				/* the unlock behind spf_may_copy() */
	:: else
	fi;
#endif
	assert(pt_lock == me + 1);
	pt_lock = 0;
out:
	atomic {					/* folio_put() */
		if
#ifndef MUT_KEEP_PAGE
		:: page -> pages--; page = false
#endif
		:: else
		fi;
		if
#ifndef MUT_KEEP_SOURCE
		:: source -> refs--; source = false
#endif
		:: else
		fi
	}
#ifndef MUT_KEEP_RCU
	rcu_unlock();
#endif
end:
	/* vma_speculate_fault(): nothing is held on any way out. */
	atomic {
		assert(pt_lock != me + 1);
		assert(!(rcu_readers & (1 << me)));
		assert(!page);
		assert(!source);
		seq = 0;
		i = 0
	}
}

/* ---- Registration ---- */

/* vma_start_write() excludes readers and stores the sequence. */
#ifdef MUT_NO_VMA_LOCK
#define mm_take_all_locks()	skip
#else
#define mm_take_all_locks()	atomic { !vm_read -> vm_lock_seq = mm_lock_seq }
#endif

#define mmap_write_lock()	atomic { !mmap_lock -> mmap_lock = true; mm_lock_seq++ }
#define mmap_write_unlock()	atomic { mmap_lock = false; mm_lock_seq++ }

inline synchronize_rcu()
{
#ifndef MUT_NO_GP
	waits_for[me] = rcu_readers;
	waits_for[me] == 0
#else
	skip
#endif
}

proctype registrant(byte me)
{
	/* mmu_interval_notifier_insert() looks without mmap_lock, others do with it. */
	if
	:: subscriptions -> goto added
	:: true
	fi;

	mmap_write_lock();
	if
	:: subscriptions ->
		mm_take_all_locks()
	:: else ->
#if defined(MUT_PUBLISH_FIRST)
		mark = true;
		mm_take_all_locks();
		subscriptions = true;
		synchronize_rcu()
#elif defined(MUT_GP_FIRST)
		synchronize_rcu();
		mark = true;
		mm_take_all_locks();
		subscriptions = true
#else
		mark = true;				/* spf_stop_copying() */
		synchronize_rcu();
		if
		:: mm_take_all_locks();
		   subscriptions = true
		:: true ->				/* killed: the mark stays */
			mmap_write_unlock();
			goto failed
		fi
#endif
	fi;
	mmap_write_unlock();
added:
	returned = true;
failed:
	skip
}

/* ---- The fault with the lock ---- */

#ifdef NEIGHBOUR
proctype neighbour()
{
	bool called;

	atomic {
		if
		:: vm_lock_seq != mm_lock_seq -> vm_read = true
		:: else -> goto out
		fi
	}
	called = subscriptions;				/* invalidate_range_start() */
	atomic { pt_lock == 0 -> pt_lock = NEIGHBOUR_ID }
	if
	:: pte == SHARED ->
		pte = EMPTY;
		atomic {
			assert(called || !returned);
			pte = OWN
		}
	:: else
	fi;
	pt_lock = 0;
	vm_read = false;
out:
	called = false
}
#endif

init {
	byte i;

	atomic {
		for (i : 0 .. SPECULATORS - 1) {
			run speculator(i)
		}
		for (i : 0 .. REGISTRANTS - 1) {
			run registrant(i)
		}
#ifdef NEIGHBOUR
		run neighbour();
#endif
		i = 0
	}
}

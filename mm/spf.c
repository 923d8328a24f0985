// SPDX-License-Identifier: GPL-2.0
/*
 * Speculative page faults: the VMA's side, and the controls.
 */
#include <linux/mm.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/sched/numa_balancing.h>
#include <linux/sysctl.h>
#include <linux/vmstat.h>

#include "spf.h"

#define CREATE_TRACE_POINTS
#include <trace/events/pagefault.h>

DEFINE_STATIC_KEY_TRUE(speculative_page_fault_key);

#ifdef CONFIG_SPECULATIVE_PAGE_FAULT_STATS
#define count_spf_event(item)	count_vm_event(item)
#else
#define count_spf_event(item)	do {} while (0)
#endif

/*
 * Memory that has nothing special about it: anonymous, or pages of a file that
 * can be looked up without sleeping. A hint, until the sequence that was read
 * before is found unchanged.
 */
static bool vma_can_speculate(const struct vm_area_struct *vma,
			      unsigned int flags)
{
	const struct vm_operations_struct *ops = READ_ONCE(vma->vm_ops);
	vm_flags_t special = VM_IO | VM_PFNMAP | VM_MIXEDMAP | VM_SHADOW_STACK |
			     VM_UFFD_MISSING | VM_UFFD_MINOR | VM_UFFD_WP |
			     VM_UFFD_RWP;

	/* The file system wants to be asked. */
	if (flags & FAULT_FLAG_WRITE)
		special |= VM_SHARED | VM_MAYSHARE;
	if (vma->vm_flags & special)
		return false;

	/*
	 * The operations outlive the RCU section, whoever provides them. A file
	 * without any is /dev/zero: handlers take the memory for anonymous and
	 * look at the file nevertheless.
	 */
	if (!ops)
		return !vma->vm_file;
	if ((flags & FAULT_FLAG_WRITE) && !spf_may_allocate(ops))
		return false;
	return ops->map_pages == filemap_map_pages;
}

/*
 * Is the task above memory.high, for more than it has paid for? In kernel mode it
 * pays for more than a batch when it charges what it may sleep for, or else only
 * on its way back to user mode, which a large copy may be far from.
 */
static bool memcg_over_high(void)
{
#ifdef CONFIG_MEMCG
	return current->memcg_nr_pages_over_high > MEMCG_CHARGE_BATCH;
#else
	return false;
#endif
}

/*
 * Read the sequence of a VMA, and see whether a fault may go on without a lock.
 * What is read of the VMA after both loads is as good as the copy: snapshot_vma()
 * reads the sequence again. What is read between them is not: the sequence may be
 * that of a writer who changes it next, and has unlocked when mm_lock_seq is read.
 *
 * Acquire vm_lock_seq: a writer's sequence is seen with the mm_lock_seq that it
 * was taken from, else a locked VMA looks unlocked. Pairs with smp_wmb() after
 * the store in mm_lock_seqcount_begin(), and with the release in
 * __vma_start_write(). Acquire mm_lock_seq: what was changed before the writer
 * unlocked is seen, that the VMA was detached included. Pairs with smp_wmb()
 * before the stores in mm_lock_seqcount_end() and, if it is the next section
 * that is seen, mm_lock_seqcount_begin(): all that is detached is detached before
 * mmap_lock is dropped or downgraded.
 *
 * A sequence is odd while it is in use; even ones and the initial UINT_MAX
 * belong to a VMA that is not finished.
 *
 * Returns NR_SPF_ABORTS, or why not.
 */
static __always_inline enum spf_abort
vma_speculate_begin(struct vm_area_struct *vma, const struct mm_struct *mm,
		    unsigned int flags, unsigned int *seqp)
{
	unsigned int seq, mm_seq;

	spf_delay(SPF_DELAY_FOUND);
	/* The first of the two, see above. */
	seq = smp_load_acquire(&vma->vm_lock_seq);
	spf_delay(SPF_DELAY_SEQUENCE);
	/* The second of the two, see above. */
	mm_seq = smp_load_acquire(&mm->mm_lock_seq.sequence);
	*seqp = seq;
	if (unlikely(seq == mm_seq || !(seq & 1) || seq == UINT_MAX ||
		     !vma_is_attached(vma)))
		return SPF_ABORT_VMA_CHANGED;

	if (!data_race(vma_can_speculate(vma, flags)))
		return SPF_ABORT_VMA_NOTSUP;

	/* An anon_vma is not ours to link. Once it is there it stays. */
	if ((flags & FAULT_FLAG_WRITE) && unlikely(!READ_ONCE(vma->anon_vma)))
		return SPF_ABORT_VMA_NOANON;

	return NR_SPF_ABORTS;
}

/*
 * Find the page table or the huge page of an address.
 *
 * Page tables may be freed and huge pages appear while we look. So each entry
 * is read once, and what it says is checked before it is followed. Nothing is
 * allocated, and a bad entry is left to those who hold a lock. Levels that are
 * folded may be looked up in the copies.
 *
 * Returns NR_SPF_ABORTS with the pmd entry and its value, or why there is none.
 */
static __always_inline enum spf_abort spf_walk(struct mm_struct *mm,
					       unsigned long address,
					       pmd_t **pmdpp, pmd_t *pmdvalp)
{
	pgd_t *pgdp, pgd;
	p4d_t *p4dp, p4d;
	pud_t *pudp, pud;
	pmd_t *pmdp, pmd;

	pgdp = pgd_offset(mm, address);
	pgd = pgdp_get(pgdp);
	if (pgd_none(pgd) || unlikely(pgd_leaf(pgd) || pgd_bad(pgd)))
		return SPF_ABORT_PMD_NONE;

	p4dp = p4d_offset_lockless(pgdp, pgd, address);
	p4d = p4dp_get(p4dp);
	if (p4d_none(p4d) || unlikely(p4d_leaf(p4d) || p4d_bad(p4d)))
		return SPF_ABORT_PMD_NONE;

	pudp = pud_offset_lockless(p4dp, p4d, address);
	pud = pudp_get(pudp);
	if (pud_none(pud))
		return SPF_ABORT_PMD_NONE;
	if (unlikely(!pud_present(pud) || pud_leaf(pud) || pud_bad(pud)))
		return SPF_ABORT_PMD_HUGE;

	pmdp = pmd_offset_lockless(pudp, pud, address);
	pmd = pmdp_get_lockless(pmdp);
	if (pmd_none(pmd))
		return SPF_ABORT_PMD_NONE;
	if (unlikely(!pmd_present(pmd)))
		return SPF_ABORT_PMD_HUGE;
	if (pmd_trans_huge(pmd)) {
		/* NUMA hinting: most of what follows it sleeps. */
		if (pmd_protnone(pmd))
			return SPF_ABORT_PMD_HUGE;
	} else if (unlikely(pmd_leaf(pmd) || pmd_bad(pmd))) {
		return SPF_ABORT_PMD_HUGE;
	}

	*pmdpp = pmdp;
	*pmdvalp = pmd;
	return NR_SPF_ABORTS;
}

/*
 * Copy what handlers of speculative faults read, the rest stays uninitialised.
 * The fields may change while they are copied. Returns false if they may have, or
 * if somebody else has got the address.
 */
static bool snapshot_vma(struct vm_area_struct *to,
			 const struct vm_area_struct *vma, struct mm_struct *mm,
			 unsigned long address, unsigned int seq)
{
	to->vm_mm = mm;
#ifdef CONFIG_NUMA_BALANCING
	/* As anon_vma below, and freed after a grace period. */
	to->numab_state = READ_ONCE(vma->numab_state);
#endif
	to->vm_ops = data_race(vma->vm_ops);
	to->vm_file = data_race(vma->vm_file);
	to->vm_start = data_race(vma->vm_start);
	to->vm_end = data_race(vma->vm_end);
	to->vm_page_prot = data_race(vma->vm_page_prot);
	to->flags = data_race(vma->flags);
	to->vm_pgoff = data_race(vma->vm_pgoff);
	to->__vm_anon_pgoff_lo = data_race(vma->__vm_anon_pgoff_lo);
	to->__vm_anon_pgoff_hi = data_race(vma->__vm_anon_pgoff_hi);
	/* Is set without a change of the sequence, but never twice. */
	to->anon_vma = READ_ONCE(vma->anon_vma);
#ifdef CONFIG_NUMA
	to->vm_policy = data_race(vma->vm_policy);
#endif
	/*
	 * Order the copy, and what else was read of the VMA, before the sequence
	 * is read again. Pairs with the barrier after the store of vm_lock_seq in
	 * __vma_start_write().
	 */
	smp_rmb();
	return likely(READ_ONCE(vma->vm_lock_seq) == seq &&
		      address >= to->vm_start && address < to->vm_end);
}

/**
 * spf_stop_copying() - Have no page of an mm replaced without a notifier call
 * @mm: The mm, about to get its first MMU notifier
 *
 * A speculative fault that copies a page calls no notifier, and nothing drains
 * it. So faults are told not to copy any more, and those that looked before
 * they could see it are waited for: each tests the mark and sets its entry
 * within one RCU section. To publish the subscription and wait then would not
 * do. A second registrant would find it, and return without having waited.
 *
 * The mark stays, even if the registration fails after all.
 *
 * Context: Process context, mmap_lock held for writing. Sleeps for a grace
 * period.
 */
void spf_stop_copying(struct mm_struct *mm)
{
	mm_flags_set(MMF_NO_SPF_COPY, mm);
	/* Pairs with mm_flags_test() in spf_may_copy(). */
	synchronize_rcu();
}

/* Is any of the tracepoints in use? There is no cheap way to ask them all. */
static DEFINE_STATIC_KEY_FALSE(spf_abort_traced);

int spf_abort_reg(void)
{
	static_branch_inc(&spf_abort_traced);
	return 0;
}

void spf_abort_unreg(void)
{
	static_branch_dec(&spf_abort_traced);
}

static noinline void trace_abort(enum spf_abort reason,
				 const struct spf_fault *fault,
				 const struct vm_area_struct *live,
				 unsigned int seq,
				 const struct vma_speculation *spf)
{
#define SPF_ABORT_TRACE(id, name)					\
	case SPF_ABORT_##id:						\
		trace_spf_##name(fault, live, seq, spf);		\
		break;

	switch (reason) {
	SPF_ABORTS(SPF_ABORT_TRACE)
	default:
		break;
	}
#undef SPF_ABORT_TRACE
}

/* The only place where it is counted and traced that a fault is aborted. */
static __always_inline void count_abort(enum spf_abort reason,
					const struct spf_fault *fault,
					const struct vm_area_struct *live,
					unsigned int seq,
					const struct vma_speculation *spf)
{
	count_spf_event(SPF_ABORT_FIRST + reason);
	if (static_branch_unlikely(&spf_abort_traced))
		trace_abort(reason, fault, live, seq, spf);
}

/**
 * __vma_speculate_fault() - Handle a page fault without a lock
 * @fault: The fault
 * @vmap: Where to return the VMA to go on with if the fault is aborted: as
 *	lock_vma_under_rcu() returns it, but not looked up again. NULL if the
 *	VMA is not to be locked
 *
 * What cannot succeed is refused before anything is copied. Kernel threads are:
 * they may use an mm without being counted in mm_users, see vma_free_deferred().
 *
 * Context: Process context, any locks.
 * Return: true if the fault is resolved. false if it was aborted, and is to be
 * handled with a lock.
 */
bool __vma_speculate_fault(const struct spf_fault *fault,
			   struct vm_area_struct **vmap)
{
	struct vma_speculation spf __uninitialized;
	struct mm_struct *mm = current->mm;
	struct vm_area_struct *vma = NULL;
	enum spf_abort reason;
	unsigned int seq = 0;
	vm_fault_t ret;

	count_spf_event(SPF_ATTEMPT);
	rcu_read_lock();

	if (!(fault->flags & FAULT_FLAG_USER)) {
		reason = SPF_ABORT_NOMEM;
		if (unlikely(memcg_over_high()))
			goto abort;

		reason = SPF_ABORT_KTHREAD;
		if (unlikely(current->flags & PF_KTHREAD))
			goto abort;

		/* Flushes may have to wait for other CPUs, on arm64 and powerpc. */
		reason = SPF_ABORT_ERROR;
		if (unlikely(irqs_disabled()))
			goto abort;
	}

	vma = mtree_load(&mm->mm_mt, fault->address);
	reason = SPF_ABORT_VMA_NONE;
	if (unlikely(!vma))
		goto abort;

	reason = vma_speculate_begin(vma, mm, fault->flags, &seq);
	if (reason != NR_SPF_ABORTS)
		goto abort;

	reason = spf_walk(mm, fault->address, &spf.pmdp, &spf.pmd);
	if (reason != NR_SPF_ABORTS)
		goto abort;

	reason = SPF_ABORT_VMA_CHANGED;
	if (!snapshot_vma(&spf.vma, vma, mm, fault->address, seq))
		goto abort;
	spf_delay(SPF_DELAY_SNAPSHOT);

	reason = SPF_ABORT_VMA_ACCESS;
	if (unlikely(arch_access_error(&spf.vma, fault->flags,
				       fault->error_code)))
		goto abort;

	spf.live = vma;
	spf.seq = seq;
	spf.numa.pages = 0;
	spf.reason = SPF_ABORT_ERROR;
	ret = handle_mm_fault(&spf.vma, fault->address,
			      fault->flags | FAULT_FLAG_SPECULATIVE, fault->regs);
	if (unlikely(ret & VM_FAULT_RETRY)) {
		count_abort(spf.reason, fault, vma, seq, &spf);
		goto lock;
	}

	rcu_read_unlock();
	count_spf_event(SPF_SUCCESS);
	perf_sw_event(PERF_COUNT_SW_SPF, 1, fault->regs, fault->address);
	if (spf.numa.pages)
		task_numa_fault(spf.numa.last_cpupid, spf.numa.nid,
				spf.numa.pages, spf.numa.flags);
	return true;

abort:
	count_abort(reason, fault, vma, seq, NULL);
lock:
	if (vmap)
		*vmap = lock_found_vma(mm, fault->address, vma);
	else
		rcu_read_unlock();
	return false;
}

static int __init speculative_page_fault_setup(char *str)
{
	if (!strcmp(str, "0"))
		static_branch_disable(&speculative_page_fault_key);
	else if (strcmp(str, "1"))
		pr_err("speculative_page_fault=%s is neither 0 nor 1, ignored\n",
		       str);
	return 1;
}
__setup("speculative_page_fault=", speculative_page_fault_setup);

#ifdef CONFIG_SYSCTL
static const struct ctl_table speculative_page_fault_table[] = {
	{
		.procname	= "speculative_page_fault",
		.data		= &speculative_page_fault_key.key,
		.mode		= 0644,
		.proc_handler	= proc_do_static_key,
	},
};

static int __init speculative_page_fault_init(void)
{
	register_sysctl_init("vm", speculative_page_fault_table);
	return 0;
}
late_initcall(speculative_page_fault_init);
#endif

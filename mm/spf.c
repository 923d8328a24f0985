// SPDX-License-Identifier: GPL-2.0
/*
 * Speculative page faults: the VMA's side, and the controls.
 */
#include <linux/mm.h>
#include <linux/perf_event.h>
#include <linux/sched.h>
#include <linux/sched/numa_balancing.h>
#include <linux/sysctl.h>
#include <linux/userfaultfd_k.h>
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
 * can be looked up without sleeping. Said of the VMA itself this is a hint, said
 * of a validated copy it is a fact.
 */
static bool vma_can_speculate(const struct vm_area_struct *vma,
			      unsigned int flags)
{
	const struct vm_operations_struct *ops = READ_ONCE(vma->vm_ops);
	vm_flags_t special = VM_IO | VM_PFNMAP | VM_MIXEDMAP | VM_SHADOW_STACK |
			     __VM_UFFD_FLAGS;

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
	return ops ? ops->map_pages == filemap_map_pages : !vma->vm_file;
}

/*
 * Copy what handlers of speculative faults read. The fields may change while
 * they are copied, which the caller finds out by the sequence.
 *
 * The rest stays uninitialised.
 */
static void snapshot_vma(struct vm_area_struct *to,
			 const struct vm_area_struct *vma, struct mm_struct *mm)
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
}

/**
 * vma_speculate_begin() - Start a speculative page fault
 * @spf: The state of the fault, uninitialised
 * @mm: The mm of the current task
 * @address: The faulting address
 * @flags: FAULT_FLAG_xxx flags
 *
 * Looks up the VMA and copies it. Kernel threads are refused: they may use an
 * mm without being counted in mm_users, see vma_free_deferred().
 *
 * Context: Process context, any locks. Enters an RCU section, which only
 * vma_speculate_fault() leaves.
 * Return: The copy of the VMA, to see whether it permits the access. NULL if
 * the fault is aborted. vma_speculate_fault() must be called in either case.
 */
struct vm_area_struct *vma_speculate_begin(struct vma_speculation *spf,
					   struct mm_struct *mm,
					   unsigned long address,
					   unsigned int flags)
{
	MA_STATE(mas, &mm->mm_mt, address, address);
	struct vm_area_struct *vma;
	unsigned int seq, mm_seq;
	enum spf_abort reason;

	count_spf_event(SPF_ATTEMPT);
	rcu_read_lock();

	spf->live = NULL;
	spf->mm = mm;
	spf->address = address;
	spf->validated = false;
	spf->numa.pages = 0;

	reason = SPF_ABORT_KTHREAD;
	if (unlikely(current->flags & PF_KTHREAD))
		goto abort;

	/* Flushes may have to wait for other CPUs, on arm64 and powerpc. */
	reason = SPF_ABORT_ERROR;
	if (!(flags & FAULT_FLAG_USER) && unlikely(irqs_disabled()))
		goto abort;

	vma = mas_walk(&mas);
	spf->live = vma;
	reason = SPF_ABORT_VMA_NONE;
	if (unlikely(!vma))
		goto abort;

	/*
	 * Acquire vm_lock_seq: a writer's sequence is seen with the mm_lock_seq
	 * that it was taken from, else a locked VMA looks unlocked. Pairs with
	 * smp_wmb() after the store in mm_lock_seqcount_begin(), and with the
	 * release in __vma_start_write(). Acquire mm_lock_seq: what was changed
	 * before the writer unlocked is seen, that the VMA was detached included.
	 * Pairs with smp_wmb() before the stores in mm_lock_seqcount_end() and, if
	 * it is the next section that is seen, mm_lock_seqcount_begin(): all that
	 * is detached is detached before mmap_lock is dropped or downgraded.
	 *
	 * A sequence is odd while it is in use; even ones and the initial
	 * UINT_MAX belong to a VMA that is not finished.
	 */
	seq = smp_load_acquire(&vma->vm_lock_seq);
	/* The second of the two, see above. */
	mm_seq = smp_load_acquire(&mm->mm_lock_seq.sequence);
	spf->seq = seq;
	reason = SPF_ABORT_VMA_CHANGED;
	if (unlikely(seq == mm_seq || !(seq & 1) || seq == UINT_MAX ||
		     !vma_is_attached(vma)))
		goto abort;

	reason = SPF_ABORT_VMA_NOTSUP;
	if (!data_race(vma_can_speculate(vma, flags)))
		goto abort;

	snapshot_vma(&spf->vma, vma, mm);
	/*
	 * Order the copy before the sequence is read again. Pairs with the
	 * barrier after the store of vm_lock_seq in __vma_start_write().
	 */
	smp_rmb();
	reason = SPF_ABORT_VMA_CHANGED;
	if (unlikely(READ_ONCE(vma->vm_lock_seq) != seq ||
		     address < spf->vma.vm_start || address >= spf->vma.vm_end))
		goto abort;

	reason = SPF_ABORT_VMA_NOTSUP;
	if (unlikely(!vma_can_speculate(&spf->vma, flags)))
		goto abort;

	/* An anon_vma is not ours to link. */
	reason = SPF_ABORT_VMA_NOANON;
	if ((flags & FAULT_FLAG_WRITE) && unlikely(!spf->vma.anon_vma))
		goto abort;

	/* What it is, unless the caller finds the access permitted. */
	spf->reason = SPF_ABORT_VMA_ACCESS;
	spf_delay(SPF_DELAY_SNAPSHOT);
	return &spf->vma;

abort:
	vma_speculate_abort(spf, reason);
	return NULL;
}

/**
 * vma_speculate_abort() - Give up a speculative page fault
 * @spf: The state of the fault
 * @reason: Why
 *
 * The fault must be about to end with VM_FAULT_RETRY.
 *
 * Context: Between vma_speculate_begin() and the end of vma_speculate_fault().
 */
void vma_speculate_abort(struct vma_speculation *spf, enum spf_abort reason)
{
	spf->validated = false;
	spf->reason = reason;
}

/**
 * spf_finish() - What the handlers' result comes to
 * @vma: The copy of the VMA
 * @ret: What the handlers returned
 *
 * To fail is left to the fault with the lock: what made this one fail may be
 * over, and was not validated. Nor is a fault resolved that nobody validated.
 *
 * Context: Within vma_speculate_fault(), before the fault is accounted.
 * Return: @ret if the fault is resolved, else VM_FAULT_RETRY.
 */
vm_fault_t spf_finish(struct vm_area_struct *vma, vm_fault_t ret)
{
	struct vma_speculation *spf;

	spf = container_of(vma, struct vma_speculation, vma);
	if (ret & VM_FAULT_OOM)
		vma_speculate_abort(spf, SPF_ABORT_NOMEM);
	if ((ret & VM_FAULT_ERROR) || !spf->validated)
		return VM_FAULT_RETRY;
	return ret;
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

/* Of all the events only that of the reason is looked at. */
static void trace_abort(const struct vma_speculation *spf, unsigned int flags,
			struct pt_regs *regs)
{
#define SPF_ABORT_TRACE(id, name)					\
	case SPF_ABORT_##id:						\
		trace_spf_##name(spf, flags, regs);			\
		break;

	switch (spf->reason) {
	SPF_ABORTS(SPF_ABORT_TRACE)
	default:
		break;
	}
#undef SPF_ABORT_TRACE
}

/**
 * vma_speculate_fault() - Handle a page fault without a lock
 * @spf: The state of the fault, from vma_speculate_begin()
 * @permitted: Whether there is a copy of the VMA, and it permits the access
 * @flags: FAULT_FLAG_xxx flags, as given to vma_speculate_begin()
 * @regs: The registers of the fault, for who counts and traces it
 * @vmap: Where to return the VMA to go on with if the fault is aborted: as
 *	lock_vma_under_rcu() returns it, but not looked up again. NULL if the
 *	VMA is not to be locked
 *
 * The only place where the end of a fault is counted and traced.
 *
 * Context: After vma_speculate_begin(), whose RCU section it leaves.
 * Return: true if the fault is resolved. false if it was aborted, and is to be
 * handled with a lock.
 */
bool vma_speculate_fault(struct vma_speculation *spf, bool permitted,
			 unsigned int flags, struct pt_regs *regs,
			 struct vm_area_struct **vmap)
{
	vm_fault_t fault = VM_FAULT_RETRY;

	if (likely(permitted)) {
		spf->reason = SPF_ABORT_ERROR;
		fault = handle_mm_fault(&spf->vma, spf->address,
					flags | FAULT_FLAG_SPECULATIVE, regs);
	}

	if (likely(!(fault & VM_FAULT_RETRY))) {
		rcu_read_unlock();
		count_spf_event(SPF_SUCCESS);
		perf_sw_event(PERF_COUNT_SW_SPF, 1, regs, spf->address);
		if (spf->numa.pages)
			task_numa_fault(spf->numa.last_cpupid, spf->numa.nid,
					spf->numa.pages, spf->numa.flags);
		return true;
	}

	count_spf_event(SPF_ABORT_FIRST + spf->reason);
	trace_abort(spf, flags, regs);
	if (vmap)
		*vmap = lock_found_vma(spf->mm, spf->address, spf->live);
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

import pytest

from bladescan.base.errors import UnknownNameError
from bladescan.tasks import pretext_tasks as tasks
from bladescan.tasks.pretext_tasks import TaskKind


def test_the_paper_has_eleven_tasks_with_fifty_prompts_in_all():
    assert len(tasks.PAPER_TASKS) == 11 and list(tasks.TASKS) == [*tasks.PAPER_TASKS, "origin"]
    assert len(tasks.prompts(tasks.PAPER_TASKS)) == 2 + 3 + 4 * 3 + 10 + 8 + 7 + 2 + 6 == 50


def test_no_prompt_is_asked_twice():
    prompts = tasks.prompts(tasks.TASKS)
    assert len(set(prompts)) == len(prompts)


def test_tasks_are_keyed_by_their_own_name():
    assert all(name == task.name for name, task in tasks.TASKS.items())


def test_kinds_are_those_of_the_paper():
    kinds = [tasks.TASKS[name].kind for name in tasks.PAPER_TASKS]
    assert kinds == [TaskKind.COARSE, TaskKind.FINE, *[TaskKind.ORDINAL] * 4, *[TaskKind.CATEGORICAL] * 5]


@pytest.mark.parametrize(
    ("name", "prompt"),
    [
        ("coarse_manipulation", "A photo of a photographic face"),
        ("fine_manipulation", "A photo of a face with a manipulated eye region"),
        ("iso_speed", "A photo of a face captured using the low ISO speed"),
        ("make", "A photo of a face captured using the FUJIFILM make"),
    ],
)
def test_prompts_read_as_in_the_paper(name, prompt):
    assert prompt in tasks.find_task(name).prompts


def test_columns_cut_the_prompts_task_by_task():
    names = ["make", "coarse_manipulation", "aperture"]
    prompts, columns = tasks.prompts(names), tasks.prompt_columns(names)
    assert list(columns) == names
    assert all(prompts[columns[name]] == tasks.find_task(name).prompts for name in names)


def test_an_unknown_task_suggests_the_nearest():
    with pytest.raises(UnknownNameError, match="Did you mean 'coarse_manipulation'"):
        tasks.find_task("coarse_manipulations")
